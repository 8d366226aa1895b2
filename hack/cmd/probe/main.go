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
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/harness/kernels"
	"twlab/harness/lab"
	"twlab/harness/microvm"
	"twlab/scenarios"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hack/e2e:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	agent := flags.String("agent", "", "")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	wanted, err := parse(flags.Args())
	if err != nil {
		return err
	}
	assignment, err := scenarios.ProbeKernels(ctx, microvm.Host{Agent: *agent}, wanted)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(assignment)
}

// parse reads "lb=/boot/vmlinuz-5.10,/lib/modules/5.10", "lb=debian-5.10" and the
// like.
func parse(words []string) (map[lab.Role]microvm.Kernel, error) {
	roles := map[string]lab.Role{"lb": lab.Balancer}
	for _, r := range []lab.Role{lab.Client, lab.Gateway, lab.Balancer, lab.Server} {
		roles[string(r)] = r
	}
	wanted := map[lab.Role]microvm.Kernel{}
	for _, word := range words {
		name, which, _ := strings.Cut(word, "=")
		role, known := roles[name]
		if !known || which == "" {
			return nil, fmt.Errorf("--kernel %s: want ROLE=NAME, ROLE=IMAGE or ROLE=IMAGE,MODULES; roles are client, gateway, lb and server", word)
		}
		if _, twice := wanted[role]; twice {
			return nil, fmt.Errorf("--kernel %s: two kernels for one role", word)
		}
		k, err := find(which)
		if err != nil {
			return nil, fmt.Errorf("--kernel %s: %w", word, err)
		}
		wanted[role] = k
	}
	return wanted, nil
}

// find takes what has a slash for paths, and anything else for a name of the
// catalogue.
func find(which string) (microvm.Kernel, error) {
	if !strings.Contains(which, "/") {
		cache, err := kernels.DefaultCache()
		if err != nil {
			return microvm.Kernel{}, err
		}
		k, err := cache.Find(which)
		return microvm.Kernel{Image: k.Image, Modules: k.Modules}, err
	}
	image, modules, _ := strings.Cut(which, ",")
	k := microvm.Kernel{Image: image, Modules: modules}
	for _, path := range []*string{&k.Image, &k.Modules} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return k, err
		}
	}
	return k, nil
}
