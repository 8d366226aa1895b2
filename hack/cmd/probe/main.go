// Command probe boots kernels, each alone in a machine of its own, and writes what
// they are and can do as JSON, for the suite's flag -kernels.
//
//	probe -agent FILE ROLE=IMAGE[,MODULES]...
//
// hack/e2e --kernel runs it, inside the sandbox.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/kernels"
	"twlab/harness/lab"
	"twlab/scenarios/roles"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hack/e2e:", guest.Detailed(err))
		os.Exit(2)
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	agent := flags.String("agent", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	words, err := parse(flags.Args())
	if err != nil {
		return err
	}
	wanted := map[lab.Role]kernel.Image{}
	for role, which := range words {
		if wanted[role], err = kernels.Find(which); err != nil {
			return fmt.Errorf("--kernel for the role %s: %w", role, err)
		}
	}
	assignment, err := roles.ProbeKernels(ctx, guest.Host{Agent: *agent}, wanted)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(assignment)
}

// parse reads "lb=/boot/vmlinuz-5.10,/lib/modules/5.10", "lb=debian-5.10" and the
// like.
func parse(words []string) (map[lab.Role]string, error) {
	roles := map[string]lab.Role{"lb": lab.Balancer}
	for _, r := range []lab.Role{lab.Client, lab.Gateway, lab.Balancer, lab.Server} {
		roles[string(r)] = r
	}
	wanted := map[lab.Role]string{}
	for _, word := range words {
		name, which, _ := strings.Cut(word, "=")
		role, known := roles[name]
		if !known || which == "" {
			return nil, fmt.Errorf("--kernel %s: want ROLE=NAME, ROLE=IMAGE or ROLE=IMAGE,MODULES; roles are client, gateway, lb and server", word)
		}
		if _, twice := wanted[role]; twice {
			return nil, fmt.Errorf("--kernel %s: two kernels for one role", word)
		}
		wanted[role] = which
	}
	return wanted, nil
}
