package diagnose

import (
	"cmp"
	"fmt"
	"slices"

	"twlab/harness/recording"
)

// Known are the facts that hold, of all causes that fit, each once.
func (d Diagnosis) Known() (all []Fact) {
	for _, f := range d.Findings {
		for _, fact := range f.Proof {
			if !slices.ContainsFunc(all, func(o Fact) bool { return o.Says == fact.Says }) {
				all = append(all, fact)
			}
		}
	}
	return all
}

// Piece is one piece of evidence that nobody has given: of a kind, and of a node.
type Piece struct {
	Kind recording.Evidence
	Node string
}

// Missing is the piece of evidence on which most of the causes that fit depend, so that it
// decides between them or rules them out; none where nothing is open. Where nobody knows how
// far the SYNs came, it is a capture there.
func (d Diagnosis) Missing() (p Piece, found bool) {
	for _, l := range d.SYNs {
		if l.End == Unseen {
			return Piece{recording.OfPackets, "behind " + l.Node}, true
		}
	}
	count := map[Piece]int{}
	for _, f := range slices.Concat(d.Findings, d.Others) {
		seen := map[Piece]bool{}
		for _, fact := range f.Open {
			if e := (Piece{fact.By, fact.At}); fact.Is == Unknown && !seen[e] {
				seen[e] = true
				count[e]++
			}
		}
	}
	// What is read without a second try comes first.
	order := []recording.Evidence{
		recording.OfCounters, recording.OfPackets, recording.OfSockets, recording.OfRules, recording.OfFlows, recording.OfErrno, recording.OfLogs, recording.OfEvents,
	}
	var all []Piece
	for e := range count {
		all = append(all, e)
	}
	unnamed := func(p Piece) int {
		if p.Node == "" {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b Piece) int {
		return cmp.Or(
			cmp.Compare(min(count[b], 2), min(count[a], 2)), cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)),
			unnamed(a)-unnamed(b), cmp.Compare(count[b], count[a]), cmp.Compare(a.Node, b.Node),
		)
	})
	if len(all) == 0 {
		return p, false
	}
	return all[0], true
}

// How says how to get a piece of evidence on a machine in production.
func (p Piece) How() string {
	at := cmp.Or(p.Node, "the node where the packets ended")
	switch p.Kind {
	case recording.OfPackets:
		return fmt.Sprintf("a capture %s, of the same time", p.Node)
	case recording.OfCounters:
		return fmt.Sprintf("the counters of %s before and after (`nstat -az`, and `conntrack -S` where it does NAT)", at)
	case recording.OfSockets:
		return fmt.Sprintf("the sockets of %s before the SYN (`ss -tan`)", at)
	case recording.OfRules:
		return fmt.Sprintf("the rules of %s with their counters, before and after (`iptables-save -c`)", at)
	case recording.OfFlows:
		return fmt.Sprintf("the conntrack entries of %s (`conntrack -L`)", at)
	case recording.OfLogs:
		return fmt.Sprintf("the log of %s", at)
	case recording.OfErrno:
		return "the error that the client's connect(2) or read(2) returned"
	default:
		return fmt.Sprintf("the kernel's reasons for dropping, of %s (`perf trace -e skb:kfree_skb`)", at)
	}
}
