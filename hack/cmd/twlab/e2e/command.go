package e2e

import (
	"errors"
	"flag"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
)

const usage = `usage: hack/e2e [--output-dir DIR] [--procs N] [--timeout TIME] [--race] [--cell FILE]
                [--kernel all=KERNEL [--virtual-time[=auto]] [--sysctl NAME=VALUE]...
                 | --kernel ROLE=KERNEL]...
                [ginkgo flags] [-- suite flags]

Runs every spec and the chosen cells of every family, the slow ones too; they
overlap. Needs no root where user namespaces are allowed, and touches nothing
outside of its sandbox and DIR.

  --output-dir DIR   where results go (default: .out in the repository, or
                     twlab-results here where there is none)
  --procs N          specs that may run at the same time (default: one for each
                     selected spec that waits long and one for four others, 48 at
                     most, 64 with long waits; nearly all of them wait for a timer
                     of the kernel, so this is not a matter of processors)
  --cell FILE        instead of all that, cells of your own: what happens with your
                     sysctls, and which rule says so (see README)
  --kernel all=KERNEL
                     the whole suite in a machine of its own with another kernel,
                     under QEMU. KERNEL is a name that twlab kernels has fetched, or
                     the path of an image (with a slash) and, after a comma, of its
                     modules. 6 specs at a time unless --procs says otherwise
  --kernel ROLE=KERNEL
                     give the role (client, gateway, balancer or server) a kernel of its own. Only
                     cells are run then, 4 at a time unless --procs says otherwise
  --virtual-time     with --kernel all=: idle time passes at once, so that what
                     waits a minute takes a second; the machine is emulated, so
                     that everything else is slow. --virtual-time=auto does so where KVM
                     does not work, which would be as slow in any case.
                     What a spec waits for, and every time in the reports, is of
                     the guest's clock
  --timeout TIME     how long the run may take: 20m, or 6h with --virtual-time or ROLE=KERNEL,
                     unless you say otherwise. Always of the wall's clock. The spec
                     that runs then is interrupted, the others do not run, and
                     results so far are kept
  --sysctl NAME=VALUE
                     with --kernel all=: set a sysctl of the machine first. Before
                     Linux 4.19 some of TCP's are not a namespace's own: then only
                     what wants the machine's value of them is run
  --race             build with the race detector (needs gcc)
  --help             this text

All other flags are Ginkgo's, for example:

  hack/e2e --label-filter '!slow'        without what waits a minute
  hack/e2e --label-filter 'family:tuple && rfc1337:1'
                                         cells by the values of their axes
  hack/e2e --label-filter 'full && !slow'
                                         every possible cell, not just the chosen
  hack/e2e --kernel all=debian-6.1 --virtual-time --label-filter virtual-time
                                         what takes hours and days otherwise: 75
                                         days took 8 minutes of processor time
  hack/e2e --focus 'TIME_WAIT' -v        some specs, with all they say
  hack/e2e --repeat 4                    five times in a row

What a run leaves in DIR (results of an earlier run are removed first):

  junit.xml, report.json   every spec and its outcome
  cells.txt                which rule held in how many cells, and what was measured
                           where a rule leaves room
  preflight.txt            what this kernel is and can do, and which kernels roles have
  evidence/                what the kernel said, for every spec that failed
  series/                  what each load did over time, a line of JSON for each interval
  bin/                     the programs that ran, and what they were told

Exit status: Ginkgo's (0 passed, 1 failed, 197 passed but some specs were
focused in the code); 2 when nothing was run or selected; 123 when the host's network
changed during the run, 125 when the sandbox or the machine could not be made.
`

// Command is the subcommand. Its flags are Ginkgo's as well, which are read as Ginkgo reads
// them: with one dash or two.
func Command() *cobra.Command {
	return Like(&cobra.Command{
		Use:         "e2e [flags]",
		Short:       "Run the suite: every spec, and the chosen cells of every family",
		Annotations: map[string]string{cli.SpeaksAs: "hack/e2e"},
	}, usage, func(c *cobra.Command, words []string) error {
		r, err := Parse(words, nil)
		if err != nil {
			return err
		}
		return Run(c.Context(), r)
	})
}

// Like makes a command whose flags are those of the suite, and that has a usage of its own
// words.
func Like(c *cobra.Command, usage string, run func(*cobra.Command, []string) error) *cobra.Command {
	c.DisableFlagParsing = true
	c.SetHelpFunc(func(c *cobra.Command, _ []string) {
		_, _ = io.WriteString(c.OutOrStdout(), usage) // as cobra does
	})
	c.RunE = func(c *cobra.Command, words []string) error {
		err := run(c, words)
		if errors.Is(err, ErrHelp) {
			return c.Help()
		}
		return err
	}
	c.ValidArgsFunction = complete
	return c
}

// complete completes the names of flags.
func complete(_ *cobra.Command, _ []string, begun string) (found []cobra.Completion, _ cobra.ShellCompDirective) {
	ginkgo, _, _, err := ginkgoFlags()
	if err != nil || !strings.HasPrefix(begun, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var r Request
	for _, name := range names([]*flag.FlagSet{r.flags(), ginkgo}) {
		if strings.HasPrefix("--"+name, begun) {
			found = append(found, "--"+name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
