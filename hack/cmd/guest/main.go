// Command guest runs a command in a machine that has another kernel, and brings
// its results back:
//
//	guest --kernel NAME|IMAGE[,MODULES] --agent FILE --results DIR [--warp] [--timeout TIME] [--file FILE]... -- command [argument...]
//	guest --kernel NAME|IMAGE[,MODULES] --check
//
// The exit code is the command's, or 125 when the machine did not come so far. When
// the time is over, the command is interrupted and what it has written brought back;
// the exit code is still the command's, unless it had to be killed.
// With --check nothing is run: it is 125 when what can be known before is wrong,
// and what accelerates machines here (kvm or tcg) is printed when nothing is.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/kernels"
	"twlab/harness/suitevm"
)

const notRun = 125

func main() {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	status, err := run(context.Background(), os.Args[1:], interrupts, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hack/e2e:", guest.Detailed(err))
		status = cmp.Or(status, notRun)
	}
	os.Exit(status)
}

func run(ctx context.Context, arguments []string, interrupts <-chan os.Signal, stdout, stderr io.Writer) (status int, err error) {
	job := suitevm.Job{Processors: runtime.NumCPU(), Env: environment(os.Environ()), Output: stdout, Interrupts: interrupts}
	var which, accelerator string
	var check bool
	flags := flag.NewFlagSet("guest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&which, "kernel", "", "`NAME` of a fetched kernel, or IMAGE or IMAGE,MODULES, paths")
	flags.BoolVar(&check, "check", false, "only see whether it could be booted")
	flags.StringVar(&accelerator, "accelerator", "", "kvm or tcg; without, KVM where it works")
	flags.StringVar(&job.Agent, "agent", "", "`path` of hack/cmd/agent, built")
	flags.StringVar(&job.Results, "results", "", "`directory` to bring back, the same here and there")
	flags.IntVar(&job.MemoryMiB, "memory", 0, "`MiB` of the machine; 0 is what a suite takes")
	flags.BoolVar(&job.Warp, "warp", false, "let idle time pass at once")
	flags.DurationVar(&job.Timeout, "timeout", 0, "how `long` it may take by the clock here; 0 is no limit")
	flags.Func("file", "further `file` for the machine; may be repeated", func(path string) error {
		job.Files = append(job.Files, path)
		return nil
	})
	flags.Func("sysctl", "`NAME=VALUE` that the machine gets first; may be repeated", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" || value == "" {
			return errors.New("want NAME=VALUE")
		}
		job.Sysctls = append(job.Sysctls, suitevm.SysctlValue{Name: name, Value: value})
		return nil
	})
	if err := flags.Parse(arguments); err != nil {
		return 0, err
	}
	job.Accelerator = guest.Accelerator(accelerator)
	if job.Kernel, err = kernels.Find(which); err != nil {
		return 0, err
	}
	if check {
		return 0, look(ctx, job, stdout)
	}
	if job.Argv = flags.Args(); len(job.Argv) == 0 {
		return 0, errors.New("no command")
	}
	if job.Warp {
		// Go programs collect garbage every two minutes even when there is none,
		// which is all that they do while days pass.
		job.Env = append(job.Env, "GOGC=off", "GOMEMLIMIT=512MiB")
	}
	status, err = suitevm.Run(ctx, job)
	if errors.Is(err, suitevm.ErrTimeout) && status != 0 {
		err = fmt.Errorf("stopped after %v of the wall's clock (--timeout), before it was done: the spec that ran then counts "+
			"as interrupted, later ones did not run, and results and evidence so far are kept", job.Timeout)
	}
	return status, err
}

// look says what accelerates the job's machine, unless that cannot be made.
func look(ctx context.Context, job suitevm.Job, stdout io.Writer) error {
	if err := suitevm.CheckJob(job); err != nil {
		return err
	}
	accelerator, err := guest.Accelerate(ctx, job.Kernel)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, accelerator)
	return err
}

// environment is what the command is to know of ours.
func environment(ours []string) []string {
	theirs := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TMPDIR=/tmp"}
	for _, v := range ours {
		for _, name := range []string{"TWLAB_OUTPUT_DIR=", "GITHUB_ACTIONS=", "TERM=", "NO_COLOR="} {
			if strings.HasPrefix(v, name) {
				theirs = append(theirs, v)
			}
		}
	}
	return theirs
}
