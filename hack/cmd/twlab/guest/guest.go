// Package guest is the subcommand that runs a command in a guest with another kernel, and
// copies its results back.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"twlab/hack/internal/cli"
	"twlab/harness/guest"
	"twlab/harness/kernels"
	"twlab/harness/suitevm"
)

// notRun is the exit status when the machine did not come so far as to run the command.
const notRun = 125

// Machine says which machine a command gets.
type Machine struct {
	Kernel      string   // name of a fetched kernel, or IMAGE or IMAGE,MODULES, paths
	Sysctls     []string // NAME=VALUE
	Files       []string // that the command needs, at the same paths
	Agent       string   // the guest agent, built
	Results     string   // directory to bring back, the same here and there
	VirtualTime bool     // let idle time pass at once
	Timeout     time.Duration
}

// Arguments are those of this program that run a command in the machine. The exit status is
// the command's, or 125. When the time is over, the command is interrupted and what it has
// written brought back; the exit status is still the command's, unless it had to be killed.
func (m Machine) Arguments(argv ...string) []string {
	all := []string{"guest", "--kernel=" + m.Kernel, "--agent=" + m.Agent, "--results=" + m.Results}
	if m.VirtualTime {
		all = append(all, "--virtual-time", "--timeout="+m.Timeout.String())
	}
	for _, f := range m.Files {
		all = append(all, "--file="+f)
	}
	for _, s := range m.Sysctls {
		all = append(all, "--sysctl="+s)
	}
	return append(append(all, "--"), argv...)
}

// Check says whether there can be such a machine, as far as that shows without a boot, and
// what accelerates it here: kvm or tcg.
func (m Machine) Check(ctx context.Context) (accelerator string, err error) {
	job, err := m.job()
	if err != nil {
		return "", err
	}
	if err := suitevm.CheckJob(job); err != nil {
		return "", errors.New(guest.Detailed(err))
	}
	a, err := guest.Accelerate(ctx, job.Kernel)
	return string(a), err
}

// Command is the subcommand, which hack/e2e --kernel all= runs inside the sandbox.
func Command() *cobra.Command {
	var m Machine
	c := &cobra.Command{
		Use:         "guest --kernel KERNEL --agent FILE --results DIR [flags] -- COMMAND [ARGUMENT...]",
		Short:       "Run a command in a guest with another kernel",
		Hidden:      true,
		Annotations: map[string]string{cli.SpeaksAs: "hack/e2e"},
	}
	flags := c.Flags()
	flags.StringVar(&m.Kernel, "kernel", "", "`NAME` of a fetched kernel, or the paths IMAGE or IMAGE,MODULES")
	flags.StringVar(&m.Agent, "agent", "", "`FILE` of the guest agent")
	flags.StringVar(&m.Results, "results", "", "`DIR` to copy back; the path is the same here and in the guest")
	flags.BoolVar(&m.VirtualTime, "virtual-time", false, "skip idle time")
	flags.DurationVar(&m.Timeout, "timeout", 0, "how `long` it may take by the clock here; 0 means no limit")
	flags.StringArrayVar(&m.Files, "file", nil, "another `FILE` for the guest; may be repeated")
	flags.StringArrayVar(&m.Sysctls, "sysctl", nil, "sysctl `NAME=VALUE` to set in the guest first; may be repeated")
	c.RunE = func(c *cobra.Command, argv []string) error {
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
		status, err := m.run(c.Context(), argv, interrupts, c.OutOrStdout())
		if err != nil {
			err = errors.New(guest.Detailed(err))
			if status == 0 {
				status = notRun
			}
		}
		if status != 0 {
			return cli.StatusError{Status: status, Err: err}
		}
		return nil
	}
	return c
}

// job is what the machine is to do, but for the command.
func (m Machine) job() (job suitevm.Job, err error) {
	job = suitevm.Job{Processors: runtime.NumCPU(), Env: environment(os.Environ()), Results: m.Results, Files: m.Files, VirtualTime: m.VirtualTime, Timeout: m.Timeout}
	job.Agent = m.Agent
	for _, text := range m.Sysctls {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" || value == "" {
			return job, fmt.Errorf("--sysctl %s: want NAME=VALUE", text)
		}
		job.Sysctls = append(job.Sysctls, suitevm.SysctlValue{Name: name, Value: value})
	}
	job.Kernel, err = kernels.Find(m.Kernel)
	return job, err
}

func (m Machine) run(ctx context.Context, argv []string, interrupts <-chan os.Signal, stdout io.Writer) (status int, err error) {
	job, err := m.job()
	if err != nil {
		return 0, err
	}
	if job.Argv = argv; len(argv) == 0 {
		return 0, errors.New("no command")
	}
	job.Output, job.Interrupts = stdout, interrupts
	if job.VirtualTime {
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
