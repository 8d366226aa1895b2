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

// newFirewall finds the programs that write rules in a network of version ip.
func newFirewall(ip topo.IPVersion) (firewall, error) {
	f := firewall{ip: ip, programs: map[topo.IPVersion]*iptables.IPTables{}}
	for _, v := range ip.Versions() {
		protocol := iptables.ProtocolIPv4
		if v == topo.IPv6 {
			protocol = iptables.ProtocolIPv6
		}
		ipt, err := iptables.New(iptables.IPFamily(protocol), iptables.Timeout(lockSeconds))
		if errors.Is(err, exec.ErrNotFound) {
			return f, fmt.Errorf("%s is not installed (%w): run hack/bootstrap", programs[v], err)
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", programs[v], err)
		}
		f.programs[v] = ipt
	}
	return f, nil
}

// programs are the names of those that write rules.
var programs = map[topo.IPVersion]string{topo.IPv4: "iptables", topo.IPv6: "ip6tables"}

// hint returns advice when the cause is not the rule but what iptables finds in the kernel:
// its exit status is then OTHER_PROBLEM (xtables_error).
func (f firewall) hint(err error) string {
	const parameterProblem, otherProblem = 2, 3
	var failed *iptables.Error
	if !errors.As(err, &failed) {
		return ""
	}
	switch failed.ExitStatus() {
	case parameterProblem:
		if f.ip == topo.DualStack {
			return "; in a dual-stack network a rule without IP is one of iptables and of ip6tables"
		}
	case otherProblem:
		return "; this backend of iptables does not work here: run hack/bootstrap as root, " +
			"or choose the other one (update-alternatives --config iptables)"
	}
	return ""
}

// firewall writes rules of a network of version ip. Its zero value has nothing to write.
type firewall struct {
	ip       topo.IPVersion
	programs map[topo.IPVersion]*iptables.IPTables
}

// newFirewall finds what writes the rules of a lab, when it has any.
func (b *builder) newFirewall() (firewall, error) {
	for _, n := range b.plan.Nodes {
		if len(b.plan.RulesOf(n)) > 0 {
			return newFirewall(b.plan.Network.IP)
		}
	}
	return firewall{}, nil
}

// each returns the rules, each once for each version that it is for.
func (f firewall) each(rules []Rule) (all []Rule) {
	for _, r := range rules {
		all = append(all, r.For(f.ip)...)
	}
	return all
}

// apply appends rules in the calling thread's namespace. It returns those that it has
// appended, each of one version.
func (f firewall) apply(rules []Rule) (appended []Rule, err error) {
	for _, r := range f.each(rules) {
		words, err := r.Words()
		if err == nil {
			err = f.programs[r.IP].Append(r.Table, r.Chain, words...)
		}
		if err != nil {
			return appended, fmt.Errorf("%s -t %s -A %s %s: %w%s", programs[r.IP], r.Table, r.Chain, r.Spec, err, f.hint(err))
		}
		appended = append(appended, r)
	}
	return appended, nil
}

// insert makes a rule of one version the first of its chain, in the calling thread's
// namespace.
func (f firewall) insert(r Rule) error {
	words, err := r.Words()
	if err == nil {
		err = f.programs[r.IP].Insert(r.Table, r.Chain, 1, words...)
	}
	if err != nil {
		return fmt.Errorf("%s -t %s -I %s %s: %w%s", programs[r.IP], r.Table, r.Chain, r.Spec, err, f.hint(err))
	}
	return nil
}

// undo takes rules away again that apply has appended, and that are the last of their
// chains.
func (f firewall) undo(appended []Rule) error {
	for _, r := range slices.Backward(appended) {
		lines, err := f.programs[r.IP].List(r.Table, r.Chain) // the first one is the chain itself
		if err == nil {
			err = f.programs[r.IP].DeleteById(r.Table, r.Chain, len(lines)-1)
		}
		if err != nil {
			return fmt.Errorf("remove the rule %s -t %s -A %s %s: %w", programs[r.IP], r.Table, r.Chain, r.Spec, err)
		}
	}
	return nil
}

// remove deletes rules, wherever they are in their chains.
func (f firewall) remove(rules []Rule) error {
	var errs []error
	for _, r := range f.each(rules) {
		words, err := r.Words()
		if err == nil {
			err = f.programs[r.IP].Delete(r.Table, r.Chain, words...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s -t %s -D %s %s: %w", programs[r.IP], r.Table, r.Chain, r.Spec, err))
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
