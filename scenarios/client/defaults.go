package client

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and what is asked of a sysctl.
const (
	sysctl = "sysctl"
	what   = "what"

	whatDefault = "default"
	whatOwn     = "own"
	whatExists  = "exists"
)

// Defaults is the family of the sysctls themselves: which ones exist, what their
// defaults are, and whether each namespace has its own value.
func Defaults() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "defaults",
			Evidence: defaultsEvidence(),
			About: "A network namespace in which no sysctl has been set: which of the sysctls exist, what are their values, and does each " +
				"namespace have its own value?",
			Axes:  defaultsAxes(),
			Rules: slices.Concat(defaultsAbsentRules(), defaultsThereRules(), defaultsValueRules()),
		},
		Topology: defaultsTopology,
		Drive:    defaultsDrive,
		Untold:   "it asks for sysctls before anything has set them, and a file begins with values for all nodes",
	}
}

func defaultsAxes() []claim.Axis {
	var names []string
	for _, t := range tunables() {
		names = append(names, t.sysctl)
	}
	return []claim.Axis{
		{Name: sysctl, Values: names, Product: true, Means: "the sysctl"},
		{Name: what, Values: []string{whatDefault, whatOwn, whatExists}, Product: true,
			Means: "what is asked: its default, whether another namespace has another value, or whether it exists and can be set"},
	}
}

// defaultsAbsentRules are about kernels that do not show the sysctl.
func defaultsAbsentRules() (rules []claim.Rule) {
	for _, t := range tunables() {
		rules = append(rules, t.absences(claim.Cells{{sysctl: {t.sysctl}}})...)
	}
	return rules
}

// defaultsThereRules are about sysctls that exist: whether each namespace has its own
// value, and whether it can be set.
func defaultsThereRules() []claim.Rule {
	var shared []string
	for _, t := range tunables() {
		if !t.alwaysOwn {
			shared = append(shared, t.sysctl)
		}
	}
	there := claim.Is("file", situation.SysctlThere)

	return []claim.Rule{
		{
			Name: "defaults-shared", Cells: claim.Cells{{sysctl: shared, what: {whatOwn}}}, Kernels: []claim.Condition{claim.Has(lab.Client, kernel.SharedSysctls)},
			Want:    []claim.Expectation{there, claim.Is("set here", "yes"), claim.Is("elsewhere", "changed too")},
			Because: "all namespaces show one value for the whole machine; setting it in one namespace sets it in all",
			Source:  "net/ipv4/sysctl_net_ipv4.c of 3.2: register_sysctl_paths",
		},
		{
			Name: "defaults-own", Cells: claim.Cells{{what: {whatOwn}}},
			Want:    []claim.Expectation{there, claim.Is("set here", "yes"), claim.Is("elsewhere", "as before")},
			Because: "each namespace has its own value",
			Source:  "struct netns_ipv4, struct netns_core, struct nf_tcp_net",
		},
		{
			Name: "defaults-exists", Cells: claim.Cells{{what: {whatExists}}},
			Want:    []claim.Expectation{there, claim.Is("can be set", "yes")},
			Because: "the namespace shows the sysctl, and root in the namespace may set it",
			Source:  "net/ipv4/sysctl_net_ipv4.c, nf_conntrack_standalone.c: mode 0644",
		},
	}
}

// defaultsValueRules are about the default values.
func defaultsValueRules() (rules []claim.Rule) {
	for _, t := range tunables() {
		rules = append(rules, t.defaults(claim.Cells{{sysctl: {t.sysctl}, what: {whatDefault}}})...)
	}
	return rules
}

// absences are the rules for kernels that do not show the sysctl.
func (t tunable) absences(cells claim.Cells) (rules []claim.Rule) {
	for _, a := range t.absent {
		rules = append(rules, claim.Rule{
			Name: "defaults-" + t.short() + "-" + a.name, Cells: cells,
			Kernels: append([]claim.Condition{claim.Lacks(lab.Client, t.shown())}, a.kernels...),
			Want:    []claim.Expectation{claim.Is("file", a.file)}, Because: a.because, Source: t.source,
		})
	}
	return rules
}

// defaults are the rules for kernels that show the sysctl.
func (t tunable) defaults(cells claim.Cells) (rules []claim.Rule) {
	for _, u := range t.usual {
		rules = append(rules, claim.Rule{
			Name: "defaults-" + t.short() + "-" + strings.TrimPrefix(u.name, "default-"), Cells: cells, Kernels: u.kernels,
			Want:    claim.With([]claim.Expectation{claim.Is("file", situation.SysctlThere)}, u.want...),
			Because: u.because, Source: t.source,
		})
	}
	return rules
}

func defaultsTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{Clients: 1, NoBaseline: true}
	if strings.HasPrefix(c.Value(sysctl), "net.netfilter.") {
		t.Gateway.Kind = lab.Masquerade // its rule loads the module that has the sysctl
	}
	return t
}

func defaultsDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	all := tunables()
	i := slices.IndexFunc(all, func(t tunable) bool { return t.sysctl == c.Value(sysctl) })
	t := tried{tunable: all[i], here: l.Client(0), elsewhere: l.Balancer()}
	switch c.Value(what) {
	case whatDefault:
		err = t.readDefault(ctx, &seen)
	case whatOwn:
		err = t.setHere(ctx, &seen)
	case whatExists:
		err = t.setAsIs(ctx, &seen)
	}
	if err != nil {
		return seen, fmt.Errorf("defaults: %w", err)
	}
	return seen, nil
}

// tried is a sysctl and the two nodes on which it is tried.
type tried struct {
	tunable
	here, elsewhere node.Node
}

// look reads the sysctl and notes whether it is there.
func (t tried) look(ctx context.Context, seen *claim.Seen) (value string, there bool, err error) {
	value, err = t.here.Sysctl(ctx, t.sysctl)
	file, err := situation.SysctlState(err)
	seen.Note("file", file)
	return value, file == situation.SysctlThere, err
}

func (t tried) readDefault(ctx context.Context, seen *claim.Seen) error {
	value, there, err := t.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	seen.Note("value", value)
	// The size is negative where the namespace uses the machine's hash table.
	entries, err := t.here.Sysctl(ctx, "net.ipv4.tcp_ehash_entries")
	if _, err := situation.SysctlState(err); err != nil {
		return err
	}
	limit, notNumber := strconv.ParseInt(value, 10, 64)
	hash, notHash := strconv.ParseInt(strings.TrimPrefix(entries, "-"), 10, 64)
	if notNumber == nil && notHash == nil {
		seen.Note("half of tcp_ehash_entries", claim.YesNo(2*limit == hash))
	}
	return nil
}

func (t tried) setHere(ctx context.Context, seen *claim.Seen) error {
	own, there, err := t.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	before, err := t.elsewhere.Sysctl(ctx, t.sysctl)
	if err != nil {
		return err
	}
	if err := t.here.SetSysctl(ctx, t.sysctl, t.other); err != nil {
		return err
	}
	mine, err := t.here.Sysctl(ctx, t.sysctl)
	if err != nil {
		return err
	}
	after, err := t.elsewhere.Sysctl(ctx, t.sysctl)
	if err != nil {
		return err
	}
	seen.Note("set here", claim.YesNo(mine == t.other))
	elsewhere := "changed too"
	if after == before {
		elsewhere = "as before"
	}
	seen.Note("elsewhere", elsewhere)
	return t.here.SetSysctl(ctx, t.sysctl, own) // it may have been the machine's
}

func (t tried) setAsIs(ctx context.Context, seen *claim.Seen) error {
	value, there, err := t.look(ctx, seen)
	if err != nil || !there {
		return err
	}
	state, err := situation.SysctlState(t.here.SetSysctl(ctx, t.sysctl, value))
	if state == situation.SysctlThere {
		state = "yes"
	}
	seen.Note("can be set", state)
	return err
}

// defaultsEvidence is what [tried] notes.
func defaultsEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "file", Unit: "a state", Means: "whether the sysctl exists in a network namespace, and if not, why"},
		{Name: "value", Unit: "the sysctl's", Means: "its value before anyone has set it"},
		{Name: "half of tcp_ehash_entries", Unit: situation.YesOrNo, Means: "whether the value is half the size of the kernel's hash table of connections"},
		{Name: "set here", Unit: situation.YesOrNo, Means: "whether the namespace accepted another value"},
		{Name: "elsewhere", Unit: "as before, or changed too", Means: "whether the value in another namespace changed then"},
		{Name: "can be set", Unit: "yes, or why not", Means: "whether the sysctl accepts the value that it already has"},
	}
}
