// Package mutate is the subcommand that tries every rule in a lab in which it must fail.
package mutate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"twlab/harness/topo"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/e2e"
	"twlab/hack/internal/cli"
	"twlab/harness/kernel"
	"twlab/harness/nearest"
	"twlab/harness/node"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/roles"
	"twlab/scenarios/situation"
	"twlab/scenarios/timewait"
)

const usage = `usage: twlab mutate [--sample] [--family NAME] [--rule NAME] [--quick] [flags of hack/e2e]

Tries every rule in a lab in which it must fail. A mutation takes what the rule expects in a
cell, changes one axis of the cell, runs that lab, and compares. The rule of the changed cell
contradicts some expectations: these must be wrong, and that rule itself must hold. The table
at the end (mutations.txt in the output directory) has the result of each mutation, and the
evidence that decided:

  caught            as it must be
  MISSED            the rule held all the same: it proves nothing
  WRONG LINE        the rule failed, but not in the contradicted expectations: no proof either
  OWN RULE BROKEN   the rule of the changed cell does not hold: it is another situation
  NOT DRIVEN        the situation could not be created

The run fails unless all mutations are caught. Results and exit status are those of hack/e2e.

  --sample       one quick mutation for each rule, instead of one for each rule and axis
  --family NAME  only the rules of one family
  --rule NAME    only one rule, or a group of rules: --rule 'tuple-established-*'
  --quick        without the mutations that wait a minute
  --help         this text

  twlab mutate --family tuple --quick
  twlab mutate --rule tuple-older-timestamp-answered
`

// choice selects the mutations to try.
type choice struct {
	family, rule  string
	quick, sample bool
	elsewhere     bool // on a kernel that is not probed here
}

// Command is the subcommand.
func Command() *cobra.Command {
	return e2e.Like(&cobra.Command{
		Use:   "mutate [--sample] [--family NAME] [--rule NAME] [--quick] [flags of hack/e2e]",
		Short: "Try every rule in a lab in which it must fail",
	}, usage, func(c *cobra.Command, words []string) error {
		r, err := request(c.Context(), words, c.ErrOrStderr())
		if err != nil {
			return cli.NotRunError(err)
		}
		return e2e.Run(c.Context(), r)
	})
}

// flags are our own flags, which write into the choice.
func (c *choice) flags() *flag.FlagSet {
	own := flag.NewFlagSet("mutate", flag.ContinueOnError)
	name := func(flag string, to *string) {
		own.Func(flag, "", func(text string) error {
			if *to = text; text == "" || text[0] == '-' {
				return cli.Usage(fmt.Errorf("--%s needs a name", flag))
			}
			return nil
		})
	}
	name("family", &c.family)
	name("rule", &c.rule)
	own.BoolVar(&c.quick, "quick", false, "without the mutations that wait a minute")
	own.BoolVar(&c.sample, "sample", false, "one quick mutation for each rule")
	return own
}

// request is the run of the suite that tries what is chosen.
func request(ctx context.Context, words []string, count io.Writer) (e2e.Request, error) {
	var c choice
	r, err := e2e.Parse(words, c.flags())
	switch {
	case err != nil:
		return r, err
	case r.LabelFilter != "":
		return r, cli.Usage(fmt.Errorf("the label filter is taken; use --family, --rule and --quick"))
	case r.Cell != "":
		return r, cli.Usage(fmt.Errorf("--cell means nothing here; it belongs to hack/e2e"))
	case len(r.Kernels) > 0:
		return r, cli.Usage(fmt.Errorf("kernels of single roles run cells only; use --kernel all=NAME"))
	}
	c.elsewhere = r.Kernel != ""
	if r.LabelFilter, err = c.find(ctx, count); err != nil {
		return r, err
	}
	which := "all"
	if c.sample {
		which = "sample"
	}
	r.Suite = append(slices.Clone(r.Suite), "-mutate="+which)
	return r, nil
}

// find is the label filter of the specs that are chosen, once there are some on this kernel.
func (c choice) find(ctx context.Context, count io.Writer) (filter string, err error) {
	rules, err := c.rules()
	if err != nil {
		return "", err
	}
	if !c.elsewhere {
		here := node.NewLocal(topo.Identity{Name: "this machine"}, func(f func() error) error { return f() })
		defer here.Close()
		facts, err := roles.Probe(ctx, here)
		if err != nil {
			return "", fmt.Errorf("what this kernel can do is not known: %w", err)
		}
		n := c.count(claim.Alike(facts), rules)
		if n == 0 {
			return "", c.nothing(rules, facts)
		}
		fmt.Fprintf(count, "%d mutations\n", n)
	}
	return c.filter(rules), nil
}

// rules are the names of the rules that are chosen.
func (c choice) rules() (chosen []string, err error) {
	var families, rules []string
	for _, f := range scenarios.Families() {
		families = append(families, f.Name)
		if c.family != "" && c.family != f.Name {
			continue
		}
		for _, r := range f.Rules {
			rules = append(rules, r.Name)
		}
	}
	if c.family != "" && !slices.Contains(families, c.family) {
		return nil, fmt.Errorf("no family %q; there are %s", c.family, strings.Join(families, ", "))
	}
	prefix, group := strings.CutSuffix(c.rule, "*")
	for _, r := range rules {
		if c.rule == "" || r == c.rule || group && strings.HasPrefix(r, prefix) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		of := ""
		if c.family != "" {
			of = " in family " + c.family
		}
		begin := 0
		for _, r := range rules {
			if strings.HasPrefix(r, c.rule) {
				begin++
			}
		}
		if begin > 0 {
			return nil, fmt.Errorf("no rule %q%s; %d begin so: --rule '%s*'", c.rule, of, begin, c.rule)
		}
		return nil, fmt.Errorf("no rule %q%s%s", c.rule, of, nearest.Hint(prefix, rules))
	}
	return chosen, nil
}

// count is how many mutations there are of the rules on such kernels, an emulation's too.
func (c choice) count(kernels claim.Kernels, rules []string) (n int) {
	add := func(f situation.Family, all []claim.Mutation) {
		if c.sample {
			all = claim.Sample(f.Family, all)
		}
		for _, m := range all {
			slow := f.NeedsVirtualTime(m.Mutated) || c.quick && f.IsSlow(m.Mutated)
			if slices.Contains(rules, m.Rule.Name) && !slow {
				n++
			}
		}
	}
	has := func(f situation.Family) bool {
		return slices.ContainsFunc(f.Rules, func(r claim.Rule) bool { return slices.Contains(rules, r.Name) })
	}
	for _, f := range scenarios.Families() {
		if has(f) {
			add(f, f.Mutations(kernels))
		}
	}
	if e := timewait.Emulations()[0]; e.Needed(kernels) && has(e.Family()) {
		add(e.Family(), e.Family().Mutations(e.Kernels(kernels)))
	}
	return n
}

// nothing says why there is nothing to try.
func (c choice) nothing(rules []string, facts kernel.Facts) error {
	of := fmt.Sprintf("%d rules", len(rules))
	if len(rules) == 1 {
		of = "rule " + rules[0]
	}
	unhurried := c
	unhurried.quick, unhurried.sample = false, false
	if unhurried.count(claim.Alike(facts), rules) > 0 {
		return fmt.Errorf("all mutations of %s wait a minute: leave out --quick and --sample", of)
	}
	return errors.New("no mutation of " + of + " on Linux " + facts.Release.String() +
		": its cells are other kernels' or take hours. --kernel all=NAME runs another one")
}

// filter is the label filter of the specs.
func (c choice) filter(rules []string) string {
	parts := []string{"mutation"}
	if c.family != "" {
		parts = append(parts, "family:"+c.family)
	}
	if c.rule != "" {
		parts = append(parts, "rule: containsAny {"+strings.Join(rules, ", ")+"}")
	}
	if c.quick {
		parts = append(parts, "!slow")
	}
	return strings.Join(parts, " && ")
}
