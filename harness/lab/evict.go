package lab

import (
	"errors"
	"fmt"

	"twlab/harness/evict"
)

// PreventEviction has the gateway keep the port of every connection that ends from now
// on until its conntrack timeout is over, as most NATs do and Linux did before 6.5. See
// [evict.Prevent] for what it needs.
func (l *Lab) PreventEviction() error {
	m, found := l.byName[string(Gateway)]
	switch {
	case !found:
		return fmt.Errorf("no %s in this lab", Gateway)
	case m.apart():
		return fmt.Errorf("%s: a node with a kernel of its own cannot be kept from evicting", Gateway)
	}
	// Before its rules, so that nothing is left of them when this fails.
	p, err := evict.Prevent(m.space.Do)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	var rules []Rule
	for _, r := range evict.Rules() {
		rules = append(rules, Rule{Role: Gateway, Table: r.Table, Chain: r.Chain, Spec: r.Spec})
	}
	if err := l.AddRules(rules...); err != nil {
		return errors.Join(err, p.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emulations = append(l.emulations, p)
	return nil
}
