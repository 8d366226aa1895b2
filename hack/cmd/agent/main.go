// Command agent is /init of machines with a kernel of their own: a static
// program that serves node calls over the second serial port (package
// harness/guest/agent). It is of no use anywhere else.
package main

import (
	"context"
	"fmt"
	"os"

	"twlab/harness/guest/agent"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "agent: this is /init of a machine that twlab starts; see harness/guest")
		os.Exit(2)
	}
	agent.Init(context.Background(), os.Stdout)
}
