// Package matrix is the subcommand that runs the suite on several kernels, and compares the
// results.
package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/e2e"
	pages "twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
	"twlab/harness/kernels"
)

const about = `Runs the suite on several kernels and compares the results. Each KERNEL is the name of a
kernel that twlab kernels has fetched, the path of an image (with a slash), or "running" for
this machine's own kernel.

It prints a table, and writes it to DIR/matrix.txt: in how many cells each claim of the
document and each rule held on each kernel, what changes between which kernels, and what
failed. The results of each run are in DIR/KERNEL, and DIR/report.html is one page of all of
them, on which kernels can be chosen.

With --results it runs nothing. Each RESULTS is a directory with results of hack/e2e, from
this machine or another one; the table uses the name of the directory.

Exit status: 0 if all runs passed; 1 if a run failed or left no results, or if a cell was
skipped on every kernel; 2 if nothing was run or read.`

// errNothing is the error of a matrix without results.
var errNothing = errors.New("there are no results")

// running is the word for this machine's own kernel.
const running = "running"

// options is what a command line asks for.
type options struct {
	output  string
	jobs    int
	virtual string // "", "true" or "auto"
	results bool
	flags   []string // of hack/e2e
	kernels []string // or directories of results
}

// Command is the subcommand.
func Command() *cobra.Command {
	c, o := command()
	c.RunE = func(c *cobra.Command, words []string) error {
		if err := o.take(c, words); err != nil {
			return err
		}
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		return o.run(ctx, c.OutOrStdout())
	}
	return c
}

// command is the subcommand, and the options into which its flags write.
func command() (*cobra.Command, *options) {
	var o options
	c := &cobra.Command{
		Use:   "matrix {KERNEL... [-- flags of hack/e2e] | --results RESULTS...}",
		Short: "Run the suite on several kernels, and compare the results",
		Long:  about,
		Example: `  twlab matrix running debian-5.10 debian-6.1 debian-6.12 debian-newest
  twlab matrix --virtual-time debian-5.10 debian-6.12 -- --label-filter 'family:tuple'
  twlab matrix --virtual-time running debian-5.10 -- --cell FILE    the results of your own cells
  twlab matrix --results .out/matrix/running ~/downloads/debian-6.1`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return append(kernels.Names(), running), cobra.ShellCompDirectiveDefault
		},
	}
	c.Flags().StringVar(&o.output, "output-dir", "", "`DIR` for the results (default: .out/matrix in the repository)")
	c.Flags().IntVar(&o.jobs, "jobs", 0, "number of runs at the same time (default: as many as there are\nprocessors and memory for, 2.5 GiB each)")
	c.Flags().StringVar(&o.virtual, "virtual-time", "", "skip idle time on all kernels except the running one;\n--virtual-time=auto does so if KVM does not work")
	c.Flags().Lookup("virtual-time").NoOptDefVal = "true"
	c.Flags().BoolVar(&o.results, "results", false, "the arguments are directories with results: run nothing")
	return c, &o
}

// take reads the words of a command line whose flags are read.
func (o *options) take(c *cobra.Command, words []string) error {
	if o.kernels = words; c.ArgsLenAtDash() >= 0 {
		o.kernels, o.flags = words[:c.ArgsLenAtDash()], words[c.ArgsLenAtDash():]
	}
	given := c.Flags().Changed
	return o.check(given("jobs"), given("virtual-time"), len(o.flags) > 0)
}

// check says what is wrong with the command line.
func (o options) check(jobs, virtual, flags bool) error {
	switch {
	case o.results && len(o.kernels) == 0:
		return cli.Usage(fmt.Errorf("--results wants directories with results"))
	case o.results && (jobs || virtual || flags):
		return cli.Usage(fmt.Errorf("--results runs nothing: --jobs, --virtual-time and flags of hack/e2e do not go with it"))
	case o.results:
		return nil
	case len(o.kernels) == 0:
		return cli.Usage(fmt.Errorf("which kernels? twlab kernels list has their names"))
	case virtual && o.virtual != "true" && o.virtual != "auto":
		return cli.Usage(fmt.Errorf("--virtual-time=%s: want --virtual-time or --virtual-time=auto", o.virtual))
	case jobs && o.jobs < 1:
		return cli.Usage(fmt.Errorf("--jobs wants a number of at least 1, not '%d'", o.jobs))
	}
	for i, kernel := range o.kernels {
		if slices.ContainsFunc(o.kernels[:i], func(other string) bool { return o.directory(other) == o.directory(kernel) }) {
			return cli.Usage(fmt.Errorf("kernel '%s' is given twice", kernel))
		}
	}
	request, err := e2e.Parse(o.flags, nil)
	switch {
	case errors.Is(err, e2e.ErrHelp):
		return cli.Usage(fmt.Errorf("flags of hack/e2e: see hack/e2e --help"))
	case err != nil:
		return err
	case request.Output != "" || request.Kernel != "" || request.VirtualTime != "" || len(request.Kernels) > 0:
		return cli.Usage(fmt.Errorf("--output-dir, --kernel and --virtual-time are not for hack/e2e here: give them and the kernels before --"))
	}
	return nil
}

func (o options) run(ctx context.Context, out io.Writer) error {
	k, err := kit.Find()
	if err != nil {
		return err
	}
	if o.output == "" {
		o.output = filepath.Join(e2e.DefaultOutput(k), "matrix")
	}
	if o.output, err = filepath.Abs(o.output); err != nil {
		return cli.NotRunError(err)
	}
	if err := os.MkdirAll(o.output, 0o755); err != nil {
		return cli.NotRunError(fmt.Errorf("cannot write to '%s': %w", o.output, err))
	}
	if o.results {
		return o.table(o.kernels, out)
	}
	if o.jobs == 0 {
		if o.jobs, err = jobs(); err != nil {
			return cli.NotRunError(err)
		}
	}
	var red error
	dirs := make([]string, len(o.kernels))
	for i, kernel := range o.kernels {
		dirs[i] = o.directory(kernel)
	}
	if red, err = o.runs(ctx, k, out); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	if err := o.table(dirs, out); err != nil {
		return err
	}
	return red
}

// table writes what the results in directories say, and leaves it in the output directory.
func (o options) table(dirs []string, out io.Writer) (err error) {
	file, err := os.Create(filepath.Join(o.output, "matrix.txt"))
	if err != nil {
		return cli.NotRunError(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	m, unread := read(dirs)
	if len(m) == 0 {
		return cli.NotRunError(errors.Join(errNothing, unread))
	}
	err = errors.Join(m.print(io.MultiWriter(out, file)), unread)
	pages.Tell(out, filepath.Join(o.output, pages.FileName), dirs)
	return err
}

// jobs is how many runs this machine has room for at the same time.
func jobs() (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("how much memory there is: %w", err)
	}
	const each = 2560 * 1024 // KiB
	fit := min(available(string(text))/each, runtime.NumCPU())
	if fit == 0 {
		return 0, errors.New("not enough memory: a run takes 2.5 GiB")
	}
	return fit, nil
}
