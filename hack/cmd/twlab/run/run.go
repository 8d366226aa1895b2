// Package run is the subcommand that runs scenario files, and compares what was seen with what
// they expect.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/sandbox"
	"twlab/harness/scriptfile"
)

const about = `Builds the network that a scenario file describes in a private sandbox, takes its steps, and
prints what was expected and what was seen.

A directory stands for all its files that end in .yaml. --twins also runs the twins of each
file, in which something must not be as expected. With --output-dir, DIR gets for each
scenario a directory with the file itself and run.json (the steps, packets, counters, sockets,
conntrack entries and rules; --schema prints the JSON schema of it), packets.pcapng for
Wireshark, with an interface for each tap, the names of the nodes and comments on the packets
that died, and taps with a file for each tap; and of all together report.html, a page to be
looked at and mailed, junit.xml, and summary.md. DIR must be new or empty.

--kernel ROLE=KERNEL makes the nodes of a role guests with another kernel: client, gateway,
balancer or server, as the short form of topologies has them, or else the nodes whose name
this is, with or without a number. --kernel all=KERNEL runs everything in a virtual machine
with that kernel, and --kernels K,K,... one after the other on several, "running" among them,
and prints a table. KERNEL is a name that twlab kernels has fetched, or the path of an image
(with a slash) and, after a comma, of its modules (not with --kernels). They need QEMU.

--keep leaves the network of a scenario that is not as expected standing until Enter is
pressed, and prints a way into each node; --keep=always that of each.

Exit status: 0 if everything was as expected, 1 if something was not, 2 if a file is wrong and
nothing was run, 3 if a step failed, so that the scenario did not come about, 4 if this machine
or kernel cannot run it, 130 if the run was interrupted; what was seen until then is kept.`

// The words of --keep.
const (
	keepFailed = "failed"
	keepAlways = "always"
)

// options is what a command line asks for.
type options struct {
	output  string
	twins   bool
	schema  bool
	ascii   bool
	keep    string   // "" for never
	kernel  []string // ROLE=KERNEL, or all=KERNEL
	kernels []string // to run on, one after the other
	// What another process of this program has prepared.
	agent    string // the guest agent
	recordTo string // a directory for recordings, one file each, and nothing else

	all string // the kernel of --kernel all=
}

// Command is the subcommand.
func Command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run scenario files, and say whether what they expect is what the kernel does",
		Long:  about,
		Example: `  twlab run scenarios/incidents/late-dnat-rule.yaml
  twlab run --output-dir results scenarios/incidents
  twlab run --kernels running,debian-5.10 scenarios/incidents
  twlab new mine.yaml && twlab run --keep mine.yaml`,
	}
	f := c.Flags()
	f.BoolVar(&o.twins, "twins", false, "run the twins, too")
	f.StringVar(&o.output, "output-dir", "", "`DIR` that gets what was recorded")
	f.BoolVar(&o.ascii, "ascii", false, "draw packets in ASCII alone")
	f.StringArrayVar(&o.kernel, "kernel", nil, "`ROLE=KERNEL`, or all=KERNEL; may be repeated")
	f.StringSliceVar(&o.kernels, "kernels", nil, "run on each of these `KERNELS`, and compare")
	f.StringVar(&o.keep, "keep", "", "leave the network standing: failed or always (default without a value: failed)")
	f.Lookup("keep").NoOptDefVal = keepFailed
	f.BoolVar(&o.schema, "schema", false, "print the JSON schema of run.json")
	f.StringVar(&o.agent, "agent", "", "`FILE` of the guest agent")
	f.StringVar(&o.recordTo, "record-to", "", "`DIR` for recordings alone")
	for _, hidden := range []string{"agent", "record-to"} {
		f.Lookup(hidden).Hidden = true
	}
	c.RunE = func(c *cobra.Command, words []string) error {
		if o.schema {
			return writeSchema(c, words)
		}
		if err := o.check(words, f.Changed("keep"), f.Changed("output-dir")); err != nil {
			return err
		}
		files, err := scriptfile.ReadAll(words)
		if err != nil {
			return cli.NotRunError(err)
		}
		return o.run(c, files)
	}
	return c
}

func writeSchema(c *cobra.Command, words []string) error {
	if len(words) > 0 {
		return cli.Usage(errors.New("either files or --schema"))
	}
	text, err := recording.Schema()
	if err == nil {
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", text)
	}
	return err
}

// text is how a recording is written for people.
func (o *options) text() func(io.Writer, recording.Recording) error {
	if o.ascii {
		return report.ASCII
	}
	return report.Text
}

// check says what is wrong with the command line.
func (o *options) check(words []string, keep, output bool) error {
	switch {
	case len(words) == 0:
		return cli.Usage(errors.New("which file? give at least one"))
	case output && o.output == "":
		return cli.Usage(errors.New("--output-dir wants a directory"))
	case keep && o.keep != keepFailed && o.keep != keepAlways:
		return cli.Usage(fmt.Errorf("--keep=%s: want --keep or --keep=always", o.keep))
	case len(o.kernels) > 0 && len(o.kernel) > 0:
		return cli.Usage(errors.New("--kernel and --kernels do not go together"))
	}
	for i, k := range o.kernels {
		switch {
		case k == "":
			return cli.Usage(errors.New("--kernels wants names with a comma in between: running,debian-5.10"))
		case slices.Contains(o.kernels[:i], k):
			return cli.Usage(fmt.Errorf("kernel '%s' is given twice", k))
		}
	}
	for _, word := range o.kernel {
		role, kernel, _ := strings.Cut(word, "=")
		switch {
		case role == "" || kernel == "":
			return cli.Usage(fmt.Errorf("--kernel %s: want ROLE=KERNEL; roles are client, gateway, balancer, server and all", word))
		case role == "all" && len(o.kernel) > 1:
			return cli.Usage(errors.New("--kernel all= goes with no other --kernel; --kernels is for several"))
		case role == "all":
			o.all = kernel
		}
	}
	if keep && (len(o.kernels) > 0 || o.all != "") {
		return cli.Usage(errors.New("--keep is for the running kernel: what is in a virtual machine ends with it"))
	}
	return nil
}

// run runs the files where they are to run.
func (o *options) run(c *cobra.Command, files []scriptfile.File) error {
	ctx, stop := cli.Interruptible(c.Context())
	defer stop()
	boxed := os.Getenv(sandbox.Variable) != ""
	switch {
	case o.recordTo != "": // whoever asked for it has seen to where we are
		return o.record(ctx, files, c.OutOrStdout())
	case o.all != "" || len(o.kernels) > 0:
		return o.onKernels(ctx, files, c.OutOrStdout(), c.ErrOrStderr())
	case len(o.kernel) > 0 && o.agent == "":
		return o.withAgent(ctx, files, c.ErrOrStderr())
	case !boxed:
		return cli.Enter()
	}
	return o.here(ctx, files, c.OutOrStdout(), c.ErrOrStderr())
}

// statuses are the exit statuses.
var statuses = map[recording.Verdict]int{
	recording.NotAsExpected: 1, recording.NotBroughtAbout: 3, recording.CannotHere: 4, recording.Interrupted: 130,
}

// ended is how the program ends after runs: by the worst of their verdicts. An interrupt that
// came between two scenarios is one, too.
func ended(ctx context.Context, runs []report.Run) error {
	worst := report.Worst(runs)
	for _, run := range runs {
		if run.Problem == "" {
			continue
		}
		if ctx.Err() != nil {
			worst = recording.Interrupted
		}
		return cli.StatusError{Status: statuses[worst], Err: errors.New(report.Plain(strings.TrimPrefix(run.Kernel+": "+run.Problem, ": ")))}
	}
	if worst == recording.AsExpected {
		return nil
	}
	return cli.StatusError{Status: statuses[worst]}
}

// cannot says that this machine cannot run it, with the status of that.
func cannot(err error) error {
	return cli.StatusError{Status: statuses[recording.CannotHere], Err: err}
}
