// Command mutations finds the mutations that hack/mutate is asked for:
//
//	mutations [-family NAME] [-rule NAME] [-quick] [-sample] [-elsewhere]
//
// It prints the label filter of their specs, and on standard error how many there are on
// this kernel. It drives nothing and needs no privileges. The exit code is 2 when there
// is no such family or rule, or nothing of it that could be tried; one line says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"twlab/harness/node"
	"twlab/harness/topo"
	"twlab/scenarios"
)

// choice is what somebody wants to have tried.
type choice struct {
	family, rule  string
	quick, sample bool
	elsewhere     bool // on kernels that are not asked here
}

func main() {
	var c choice
	flag.StringVar(&c.family, "family", "", "only the rules of this family")
	flag.StringVar(&c.rule, "rule", "", "only this rule, or all that begin so when it ends in *")
	flag.BoolVar(&c.quick, "quick", false, "without the mutations that wait a minute")
	flag.BoolVar(&c.sample, "sample", false, "one quick mutation for each rule")
	flag.BoolVar(&c.elsewhere, "elsewhere", false, "for another kernel than this one: nothing is counted")
	flag.Parse()
	if err := run(context.Background(), c, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "hack/mutate: %v\n", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, c choice, filter, count io.Writer) error {
	rules, err := c.rules()
	if err != nil {
		return err
	}
	if !c.elsewhere {
		here := node.NewLocal(topo.Identity{Name: "this machine"}, func(f func() error) error { return f() })
		defer here.Close()
		facts, err := scenarios.Probe(ctx, here)
		if err != nil {
			return fmt.Errorf("what this kernel can do is not known: %w", err)
		}
		n := c.count(scenarios.Alike(facts), rules)
		if n == 0 {
			return c.nothing(rules, facts)
		}
		fmt.Fprintf(count, "%d mutations\n", n)
	}
	fmt.Fprintln(filter, c.filter(rules))
	return nil
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
		return nil, fmt.Errorf("no rule %q%s; near it are %s", c.rule, of, strings.Join(scenarios.Nearest(prefix, rules), ", "))
	}
	return chosen, nil
}

// count is how many mutations there are of the rules on such kernels, an emulation's too.
func (c choice) count(kernels scenarios.Kernels, rules []string) (n int) {
	add := func(f scenarios.Family, all []scenarios.Mutation) {
		if c.sample {
			all = scenarios.Sample(f, all)
		}
		for _, m := range all {
			slow := f.IsWarp(m.World) || c.quick && f.IsSlow(m.World)
			if slices.Contains(rules, m.Rule.Name) && !slow {
				n++
			}
		}
	}
	has := func(f scenarios.Family) bool {
		return slices.ContainsFunc(f.Rules, func(r scenarios.Rule) bool { return slices.Contains(rules, r.Name) })
	}
	for _, f := range scenarios.Families() {
		if has(f) {
			add(f, f.Mutations(kernels))
		}
	}
	if e := scenarios.Emulations()[0]; e.Needed(kernels) && has(e.Family()) {
		add(e.Family(), e.Family().Mutations(e.Kernels(kernels)))
	}
	return n
}

// nothing says why there is nothing to try.
func (c choice) nothing(rules []string, facts scenarios.Facts) error {
	of := fmt.Sprintf("%d rules", len(rules))
	if len(rules) == 1 {
		of = "rule " + rules[0]
	}
	unhurried := c
	unhurried.quick, unhurried.sample = false, false
	if unhurried.count(scenarios.Alike(facts), rules) > 0 {
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
