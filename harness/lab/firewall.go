//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"github.com/coreos/go-iptables/iptables"

	"twlab/harness/topo"
)

// lockSeconds limits the wait for the xtables lock, which the legacy backend shares through
// the file system.
const lockSeconds = 10

// newIPTables finds the iptables program, once for a lab.
func newIPTables() (*iptables.IPTables, error) {
	ipt, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Timeout(lockSeconds))
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("iptables is not installed (%w): run hack/bootstrap", err)
	}
	if err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	return ipt, nil
}

// hint returns advice when the cause is not the rule but what iptables finds in the kernel:
// its exit status is then OTHER_PROBLEM (xtables_error).
func hint(err error) string {
	const otherProblem = 3
	var failed *iptables.Error
	if errors.As(err, &failed) && failed.ExitStatus() == otherProblem {
		return "; this backend of iptables does not work here: run hack/bootstrap as root, " +
			"or choose the other one (update-alternatives --config iptables)"
	}
	return ""
}

// firewall writes rules.
type firewall struct {
	iptables *iptables.IPTables // nil when there is none to write
}

// newFirewall finds what writes the rules of a lab, when it has any.
func (b *builder) newFirewall() (f firewall, err error) {
	for _, n := range b.plan.Nodes {
		if len(b.plan.RulesOf(n)) > 0 {
			f.iptables, err = newIPTables()
			return f, err
		}
	}
	return f, nil
}

// apply appends rules in the calling thread's namespace, and says how many it has
// appended.
func (f firewall) apply(rules []Rule) (appended int, err error) {
	for _, r := range rules {
		words, err := r.Words()
		if err == nil {
			err = f.iptables.Append(r.Table, r.Chain, words...)
		}
		if err != nil {
			return appended, fmt.Errorf("iptables -t %s -A %s %s: %w%s", r.Table, r.Chain, r.Spec, err, hint(err))
		}
		appended++
	}
	return appended, nil
}

// insert makes a rule the first of its chain, in the calling thread's namespace.
func (f firewall) insert(r Rule) error {
	words, err := r.Words()
	if err == nil {
		err = f.iptables.Insert(r.Table, r.Chain, 1, words...)
	}
	if err != nil {
		return fmt.Errorf("iptables -t %s -I %s %s: %w%s", r.Table, r.Chain, r.Spec, err, hint(err))
	}
	return nil
}

// undo takes rules away again, which are the last of their chains.
func (f firewall) undo(rules []Rule) error {
	for _, r := range slices.Backward(rules) {
		lines, err := f.iptables.List(r.Table, r.Chain) // the first one is the chain itself
		if err == nil {
			err = f.iptables.DeleteById(r.Table, r.Chain, len(lines)-1)
		}
		if err != nil {
			return fmt.Errorf("remove the rule iptables -t %s -A %s %s: %w", r.Table, r.Chain, r.Spec, err)
		}
	}
	return nil
}

// remove deletes rules, wherever they are in their chains.
func (f firewall) remove(rules []Rule) error {
	var errs []error
	for _, r := range rules {
		words, err := r.Words()
		if err == nil {
			err = f.iptables.Delete(r.Table, r.Chain, words...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("iptables -t %s -D %s %s: %w", r.Table, r.Chain, r.Spec, err))
		}
	}
	return errors.Join(errs...)
}

// of lists the rules that are for a node.
func of(rules []Rule, who topo.Identity) (its []Rule) {
	for _, r := range rules {
		if r.On(who.Name, who.Role) {
			its = append(its, r)
		}
	}
	return its
}
