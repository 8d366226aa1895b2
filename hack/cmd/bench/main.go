// Command bench measures what twlab costs, always against something else that
// was measured in the same run: a bare loop of the same system calls, the same
// commands of ip(8), or the same work without evidence. Rounds of both sides
// alternate, medians are reported, and no time is ever a failure: a goal that was
// missed is a word in the table.
//
//	bench [flags]                 labs, attempts and machines; needs the sandbox
//	bench -e2e DIR [flags]        hack/e2e, which enters a sandbox of its own
//
// hack/bench builds it and runs both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/hack/internal/cli"
	"twlab/harness/kernel"
	"twlab/harness/sandbox"
)

func main() {
	// These end the run by an error, so that deferred calls take everything down.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options is what the command line asks for.
type options struct {
	clients   []int  // sizes of labs
	ipClients int    // the largest lab that is made by ip(8) as well
	rounds    int    // of each comparison; large labs get fewer
	attempts  int    // connects in each sample of a rate; 0 skips them
	loads     bool   // whether whole loads are measured
	e2e       string // output directory for hack/e2e; "" measures the rest
	profile   string // file for a CPU profile
	agent     string // hack/cmd/agent, built; "" measures no machine
	kernel    string // name of the kernel of machines; "" takes the first that was fetched
	job       string // the suite, built
}

func parse(arguments []string) (options, error) {
	o := options{clients: []int{1, 10, 100, 1000, 4000}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it, once
	// What they mean is in the usage of hack/bench, and with the options above.
	flags.Func("clients", "", func(list string) (err error) {
		o.clients, err = parseSizes(list)
		return err
	})
	flags.IntVar(&o.ipClients, "ip-clients", 100, "")
	flags.IntVar(&o.rounds, "rounds", 5, "")
	flags.IntVar(&o.attempts, "attempts", 2000, "")
	flags.BoolVar(&o.loads, "loads", true, "")
	flags.StringVar(&o.e2e, "e2e", "", "")
	flags.StringVar(&o.profile, "cpuprofile", "", "")
	flags.StringVar(&o.agent, "agent", "", "")
	flags.StringVar(&o.kernel, "kernel", "", "")
	flags.StringVar(&o.job, "job", "", "")
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		return o, errors.New("see hack/bench --help")
	} else if err != nil {
		return o, fmt.Errorf("%w; see hack/bench --help", near(flags, err))
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("argument %q belongs to no flag; see hack/bench --help", flags.Arg(0))
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: want at least 1", o.rounds)
	case o.attempts < 0 || o.attempts > 0 && o.attempts < 1000:
		return o, fmt.Errorf("-attempts %d: want 0 or at least 1000", o.attempts)
	}
	return o, nil
}

// near says of a flag that is none of ours which are near it.
func near(flags *flag.FlagSet, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	var known []string
	flags.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	return cli.UnknownFlag(name, known)
}

func parseSizes(list string) ([]int, error) {
	if list == "none" {
		return nil, nil
	}
	var sizes []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: want numbers of at least 1, separated by commas, or none", word)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

func run(ctx context.Context, arguments []string, out io.Writer) (err error) {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	if o.profile != "" {
		file, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return errors.Join(err, file.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, file.Close())
		}()
	}
	t := &table{out: out}
	if o.e2e != "" {
		return benchSuite(ctx, t, o)
	}
	if os.Getenv(sandbox.Variable) == "" {
		return errors.New("labs are made and named namespaces used: run it by hack/bench, inside the sandbox")
	}
	if err := printMachine(out); err != nil {
		return err
	}
	t.head()
	if err := benchLabs(ctx, t, o); err != nil {
		return err
	}
	if o.attempts > 0 {
		if err := benchAttempts(ctx, t, o); err != nil {
			return err
		}
		if err := benchExchanges(ctx, t, o); err != nil {
			return err
		}
		if err := benchEvidence(ctx, t, o); err != nil {
			return err
		}
		if err := benchReasons(ctx, t, o); err != nil {
			return err
		}
	}
	if o.loads {
		if err := benchLoads(ctx, t, o); err != nil {
			return err
		}
	}
	if o.agent == "" {
		return nil
	}
	return benchMachines(ctx, t, o)
}

// printMachine says what the numbers depend on.
func printMachine(out io.Writer) error {
	release, err := kernel.Running()
	if err != nil {
		return err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	averages := strings.Join(strings.Fields(string(load))[:3], " ")
	fmt.Fprintf(out, "%d processors, kernel %v, load average %s, %s\n\n", runtime.NumCPU(), release, averages, runtime.Version())
	return nil
}
