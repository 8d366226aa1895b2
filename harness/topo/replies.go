package topo

import "fmt"

// Marked is a link over which replies go back by a mark: a packet with the mark is sent
// to the neighbour.
type Marked struct {
	Mark int
	End  End
}

// Marked are the links of a node that does not send replies by its routes.
func (n Planned) Marked() (all []Marked) {
	if n.Replies == ByRoute {
		return nil
	}
	for i, e := range n.Ends {
		all = append(all, Marked{Mark: i + 1, End: e})
	}
	return all
}

// marks are the rules by which replies get their mark.
func (n Planned) marks() (rules []Rule) {
	add := func(chain, spec string) {
		rules = append(rules, Rule{Node: n.Name, Table: "mangle", Chain: chain, Spec: spec})
	}
	for _, m := range n.Marked() {
		if n.Replies == ByAcceptMark {
			add("PREROUTING", fmt.Sprintf("-i %s -j MARK --set-mark %d", m.End.Interface, m.Mark))
			continue
		}
		add("PREROUTING", fmt.Sprintf("-i %s -m conntrack --ctstate NEW -j CONNMARK --set-mark %d", m.End.Interface, m.Mark))
	}
	if n.Replies == AsTheyCame {
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			add(chain, "-m conntrack --ctdir REPLY -j CONNMARK --restore-mark")
		}
	}
	return rules
}

// tracked are the rules that say what connection tracking sees.
func (n Planned) tracked() (rules []Rule) {
	untracked := func(chain, match string) {
		rules = append(rules, Rule{Node: n.Name, Table: "raw", Chain: chain, Spec: match + "-j CT --notrack"})
	}
	switch n.Tracking {
	case AsRulesWant:
		return nil
	case Never:
		untracked("PREROUTING", "")
		untracked("OUTPUT", "")
		return rules
	case Arriving:
		untracked("OUTPUT", "")
		if len(n.Ends) > 0 {
			untracked("PREROUTING", "! -i "+n.Ends[0].Interface+" ")
		}
	case Always:
	}
	// A rule that asks for the state of a connection is what has the kernel track.
	return append(rules, Rule{Node: n.Name, Table: "filter", Chain: "INPUT", Spec: "-m conntrack --ctstate NEW"})
}
