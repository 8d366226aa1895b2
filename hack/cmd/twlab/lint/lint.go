// Package lint is the subcommand that says what is wrong with the lines of a sysctl.conf.
package lint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/nearest"
	"twlab/harness/topo"
	"twlab/scenarios/advice"
)

const about = `Reads a sysctl.conf, a file of sysctl.d or the output of sysctl -a, and says line by line what
is wrong with it, for a kernel and a role: what the kernel refuses, what breaks connections, what
another line undoes, and what does not do what it is set for. Each finding has the command that
shows it; IMAGE in it stands for a kernel that the finding is about. It needs no privilege, sets
nothing, and works on any system. FILE - is the standard input.

It says only what rules of the suite and scenario files prove, and what the history of a sysctl
says: a line without a finding is not said to be right.

Exit status: 0 if there are notes at most, 1 if there is more, 2 if the file or a flag is wrong.`

// Command is the subcommand.
func Command() *cobra.Command {
	var role, release string
	var all bool
	c := &cobra.Command{
		Use:   "lint FILE",
		Short: "Say what is wrong with the lines of a sysctl.conf",
		Long:  about,
		Example: `  twlab lint /etc/sysctl.conf
  twlab lint --role gateway --kernel 5.10 /etc/sysctl.conf
  sysctl -a | twlab lint -`,
	}
	c.Flags().StringVar(&role, "role", "", "`ROLE` of the host: balancer, client, gateway or server; all without it")
	c.Flags().StringVar(&release, "kernel", "", "mainline `RELEASE` of its kernel, such as 6.1; the running one without it")
	c.Flags().BoolVar(&all, "all", false, "also say which values are defaults, and which a container does not get")
	c.RunE = func(c *cobra.Command, words []string) error {
		if len(words) != 1 {
			return cli.Usage(errors.New("which file? give one, or - for the standard input"))
		}
		r, err := roleNamed(role)
		if err != nil {
			return cli.Usage(err)
		}
		k, err := chosen(release)
		if err != nil {
			return cli.Usage(err)
		}
		f, err := read(words[0], c.InOrStdin())
		if err != nil {
			return cli.NotRunError(err)
		}
		who := r
		if who == "" {
			who = "every role"
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: for %s, %s\n", advice.Shown(words[0]), k.words, who)
		return report(c.OutOrStdout(), f, advice.For{Facts: k.facts, Role: r, All: all})
	}
	return c
}

// roleNamed is the role of that name; empty is all.
func roleNamed(name string) (topo.Role, error) {
	if name == "" {
		return "", nil
	}
	names := []string{string(topo.Balancer), string(topo.Client), string(topo.Gateway), string(topo.Server)}
	for _, n := range names {
		if n == name {
			return topo.Role(n), nil
		}
	}
	near := ""
	if found := nearest.To(name, names); len(found) > 0 {
		near = "; near it: " + found[0]
	}
	return "", fmt.Errorf("no role %q%s; it is one of %s", name, near, strings.Join(names, ", "))
}

// read reads the file, or the standard input.
func read(name string, input io.Reader) (advice.File, error) {
	if name == "-" {
		f, err := advice.Read(input)
		if err != nil {
			return f, fmt.Errorf("the standard input: %w", err)
		}
		return f, nil
	}
	file, err := os.Open(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return advice.File{}, fmt.Errorf("cannot read '%s': %w", advice.Shown(name), err)
	}
	defer file.Close()
	f, err := advice.Read(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return f, fmt.Errorf("%s: %w", advice.Shown(name), err)
	}
	return f, nil
}

// report writes what there is to say, and ends by the worst of it.
func report(to io.Writer, f advice.File, about advice.For) error {
	findings := advice.Check(f, about)
	if err := advice.WriteText(to, findings); err != nil {
		return err
	}
	counts, worse := map[advice.Level]int{}, false
	for _, one := range findings {
		counts[one.Level]++
		worse = worse || one.Level != advice.Note
	}
	var parts []string
	for _, level := range advice.Levels() {
		if n := counts[level]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, plural(level, n)))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to say"}
	}
	fmt.Fprintf(to, "\n%s, of %d settings (%d of them known here)\n", strings.Join(parts, ", "), len(f.Settings), f.Known())
	const most = 20
	for i, m := range f.Mistakes {
		if i == most {
			fmt.Fprintf(to, "and %d lines more\n", len(f.Mistakes)-most)
			break
		}
		fmt.Fprintf(to, "line %d: %s\n", m.Line, m.Text)
	}
	switch {
	case len(f.Mistakes) > 0:
		return cli.StatusError{Status: cli.NotRun, Err: fmt.Errorf("not all lines are settings: %d", len(f.Mistakes))}
	case worse:
		return cli.StatusError{Status: cli.Failed}
	}
	return nil
}

// plural is the level, for a number of findings.
func plural(l advice.Level, n int) string {
	if n == 1 || l == advice.NoEffect {
		return string(l)
	}
	return string(l) + "s"
}
