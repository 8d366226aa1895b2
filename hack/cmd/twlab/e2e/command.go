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

Runs every spec and the chosen cells of every family, including the slow ones, many
at the same time. It needs no root if user namespaces are allowed, and changes nothing
outside its sandbox and DIR.

  --output-dir DIR   directory for the results (default: .out in the repository, or
                     twlab-results here if there is no repository)
  --procs N          number of specs that may run at the same time (default: one for
                     each selected spec that waits long, and one for every four
                     others; at most 48, or 64 with long waits, and fewer where
                     memory is short). Nearly all specs
                     wait for a timer of the kernel, so the number of processors
                     does not matter
  --cell FILE        run only your own cells: what happens with your sysctls, and
                     which rule predicts it (see hack/SUITE.md)
  --kernel all=KERNEL
                     run the whole suite in a guest with another kernel, under QEMU.
                     KERNEL is a name that twlab kernels has fetched, or the path of
                     an image (with a slash) and, after a comma, of its modules.
                     Default for --procs: 6
  --kernel ROLE=KERNEL
                     run the nodes of a role (client, gateway, balancer or server) as
                     guests with this kernel. Only cells are run then. Default for
                     --procs: 4
  --virtual-time     with --kernel all=: skip idle time, so that a wait of a minute
                     takes a second. The guest is emulated, so everything else is
                     slow. --virtual-time=auto does this only if KVM does not work,
                     because the guest is emulated then in any case.
                     Waits of specs, and all times in the reports, are by the clock
                     of the guest
  --timeout TIME     how long the run may take (default: 20m, or 6h with --virtual-time
                     or ROLE=KERNEL), always in real time. After that the running
                     spec is interrupted, later ones do not run, and results so far
                     are kept
  --sysctl NAME=VALUE
                     with --kernel all=: set a sysctl of the guest first. Before Linux
                     4.19 some TCP sysctls have one value for the whole machine: then
                     only the specs that expect this value are run
  --race             build with the race detector (needs gcc)
  --help             this text

All other flags are Ginkgo's, for example:

  hack/e2e --label-filter '!slow'        without specs that wait a minute
  hack/e2e --label-filter 'family:tuple && rfc1337:1'
                                         cells by the values of their axes
  hack/e2e --label-filter 'full && !slow'
                                         every possible cell, not only the chosen ones
  hack/e2e --kernel all=debian-6.1 --virtual-time --label-filter virtual-time
                                         cells that otherwise take hours or days: 75
                                         days took 8 minutes of processor time
  hack/e2e --focus 'TIME_WAIT' -v        some specs, with all their output
  hack/e2e --repeat 4                    five times in a row

A run leaves in DIR (it removes the results of an earlier run first):

  report.html              all of this as one page, to be looked at and mailed
                           (twlab report makes one of several runs)
  junit.xml, report.json   every spec and its outcome
  cells.txt                in how many cells each rule held, and what was measured if a
                           rule allows a range
  preflight.txt            what this kernel is and can do, and which kernels roles have
  evidence/                counters, sockets, packets and more of every failed spec
  recordings/              the packets of cells, and what incidents and causes have
                           shown
  series/                  the course of each load, a line of JSON for each interval
  bin/                     the programs that ran, and their working files

Exit status: Ginkgo's (0 passed; 1 failed; 197 passed, but some specs were focused in
the code); 2 if nothing was run or selected; 123 if the host's network changed during
the run; 125 if the sandbox or the guest could not be created.
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

// Like makes a command that has the flags of the suite and its own usage text.
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
