package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"twlab/harness/explain"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/reason"
	"twlab/harness/recorded"
	"twlab/harness/recording"
	"twlab/harness/topo"
)

// mostExplained is the number of clients up to which a load is explained: each of their links is
// recorded at both ends, which takes 1 MiB each.
const mostExplained = 100

// fastest is the number of attempts per second up to which recording all links leaves a load as it
// is.
const fastest = 500

// disturbs reports whether recording all links would make a load slower.
func (o *options) disturbs() bool {
	return o.plan.Attempts() > explain.MostWhole && (o.plan.Rate == 0 || o.plan.Rate > fastest)
}

// explainer explains the attempts of a load; nil explains nothing.
type explainer struct {
	lab    *lab.Lab
	load   *explain.Load
	before map[string]recording.State
}

// explain begins to explain the load of a lab, where that is asked for. It says so where it cannot.
func (o *options) explain(ctx context.Context, l *lab.Lab, stdout io.Writer) (*explainer, error) {
	switch clients := len(o.plan.Clients); {
	case o.explained == "no":
		return nil, nil
	case o.explained == "auto" && o.disturbs():
		fmt.Fprintln(stdout, "why attempts fail is not looked at: recording all packets would make this load slower (--explain yes)")
		return nil, nil
	case clients > mostExplained:
		fmt.Fprintf(stdout, "why attempts fail is not looked at: the links of %d clients are not recorded, only those of up to %d\n", clients, mostExplained)
		return nil, nil
	}
	known := recording.Recording{Nodes: map[string]recording.Node{}, Missing: map[recording.Evidence]string{}}
	plan, err := o.topology.Network().Plan()
	if err != nil {
		return nil, err
	}
	settings, err := settingsOf(ctx, l)
	if err != nil {
		return nil, err
	}
	var links []string
	for _, n := range plan.Nodes {
		known.Nodes[n.Name] = recording.Node{Role: string(n.Role), Addresses: recorded.Addresses(n), Settings: settings[n.Role]}
		if slices.ContainsFunc(n.Ends, func(e topo.End) bool { return e.Outer }) {
			links = append(links, n.Name)
		}
	}
	if err := l.Capture(links...); err != nil {
		return nil, err
	}
	w, _, err := reason.Attach(l)
	if errors.Is(err, reason.ErrUnknown) {
		known.Missing[recording.OfEvents] = err.Error()
	} else if err != nil {
		return nil, err
	}
	x := &explainer{lab: l}
	if x.before, err = x.states(ctx); err != nil {
		return nil, err
	}
	x.load = explain.Begin(l, w, known, &o.plan)
	return x, nil
}

// settingsOf are the sysctls of clients that decide which ports they have. All have the same.
func settingsOf(ctx context.Context, l *lab.Lab) (map[lab.Role]map[string]recording.Setting, error) {
	all := map[string]recording.Setting{}
	for _, name := range []string{recording.PortRange, recording.ReservedPorts} {
		value, err := l.Client(0).Sysctl(ctx, name)
		var absent *kernel.SysctlError
		if errors.As(err, &absent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[name] = recording.Setting{Value: value}
	}
	return map[lab.Role]map[string]recording.Setting{lab.Client: all}, nil
}

// states are those of all nodes. Only the gateway has rules.
func (x *explainer) states(ctx context.Context) (map[string]recording.State, error) {
	all := map[string]recording.State{}
	for _, role := range []lab.Role{lab.Client, lab.Gateway, lab.Balancer} {
		for _, n := range x.lab.Nodes(role) {
			s, err := recorded.State(ctx, n, role == lab.Gateway, role == lab.Gateway)
			if err != nil {
				return nil, err
			}
			all[n.Identity().Name] = s
		}
	}
	return all, nil
}

// report writes why attempts did not connect at once: how many have which cause, and an example of
// each.
func (x *explainer) report(ctx context.Context, to io.Writer) error {
	if x == nil {
		return nil
	}
	after, err := x.states(ctx)
	if err != nil {
		return err
	}
	causes, _, err := x.load.Causes(x.before, after)
	if err != nil {
		return err
	}
	total, unexplained := 0, 0
	for _, c := range causes {
		total += c.Attempts
		if c.Status == c.Cause {
			unexplained += c.Attempts
		}
	}
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "not at once\t%d\tby cause, of which twlab explain has a page:\n", total)
	for _, c := range causes {
		if c.Status != c.Cause {
			fmt.Fprintf(table, "  %s\t%d\t%s\n", c.Cause, c.Attempts, c.Status)
		}
	}
	fmt.Fprintf(table, "  unexplained\t%d\t\n", unexplained)
	_ = table.Flush() // to where errors are nobody's business, as with fmt.Fprintf
	for _, c := range causes {
		fmt.Fprintf(to, "one of %d, %s:\n", c.Attempts, c.Short())
		for _, line := range slices.Concat(c.Why[min(1, len(c.Why)):], c.Ladder) {
			fmt.Fprintf(to, "  %s\n", line)
		}
	}
	return nil
}
