//go:build linux

package load_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"twlab/harness/internal/exampletest"
)

// The tests wait for timers of the kernel most of the time, each with a lab of its own, so that
// four of them disturb each other no more than one for each processor does.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(exampletest.Main(m))
}
