//go:build linux

package evict

import (
	"context"
	"errors"
	"fmt"

	"twlab/harness/lab"
)

// Attach makes the gateway of a lab keep the port of every connection that ends from now on
// until its conntrack timeout ends, as most NATs do and Linux did before 6.5. It stops when
// the lab closes. See [Prevent] for what it needs.
func Attach(ctx context.Context, l *lab.Lab) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: prevent eviction: %w", lab.Gateway, err)
	}
	gateways := l.Nodes(lab.Gateway)
	if len(gateways) == 0 {
		return fmt.Errorf("no %s in this lab", lab.Gateway)
	}
	name := gateways[0].Identity().Name
	inside, err := l.Inside(name)
	if errors.Is(err, lab.ErrGuest) {
		return fmt.Errorf("%s: cannot prevent eviction on %w", name, lab.ErrGuest)
	}
	if err != nil {
		return err
	}
	// Before its rules, so that nothing is left of them when this fails.
	p, err := Prevent(inside)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var rules []lab.Rule
	for _, r := range Rules() {
		rules = append(rules, lab.Rule{Role: lab.Gateway, Table: r.Table, Chain: r.Chain, Spec: r.Spec})
	}
	if err := l.AddRules(rules...); err != nil {
		return errors.Join(err, p.Close())
	}
	l.CloseWith(p)
	return nil
}
