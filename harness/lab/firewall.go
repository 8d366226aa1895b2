//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

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

// firewall is rules and the program that writes them.
type firewall struct {
	rules    []Rule
	iptables *iptables.IPTables // nil when there are no rules
}

func newFirewall(rules []Rule) (f firewall, err error) {
	f.rules = rules
	if len(rules) > 0 {
		f.iptables, err = newIPTables()
	}
	return f, err
}

// apply appends the node's rules in the calling thread's namespace, and returns how many it
// appended.
func (f firewall) apply(who topo.Member) (appended int, err error) {
	for _, r := range f.of(who) {
		if err := f.iptables.Append(r.Table, r.Chain, strings.Fields(r.Spec)...); err != nil {
			return appended, fmt.Errorf("iptables -t %s -A %s %s: %w%s", r.Table, r.Chain, r.Spec, err, hint(err))
		}
		appended++
	}
	return appended, nil
}

// undo removes the first n of the node's rules, which are the last of their chains.
func (f firewall) undo(who topo.Member, n int) error {
	rules := f.of(who)
	for _, r := range slices.Backward(rules[:n]) {
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

// of lists the rules of a node.
func (f firewall) of(who topo.Member) (rules []Rule) {
	for _, r := range f.rules {
		if r.On(who.Name, who.Role) {
			rules = append(rules, r)
		}
	}
	return rules
}
