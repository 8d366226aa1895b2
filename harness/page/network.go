package page

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
)

// network is what is drawn of the network of a recording.
type network struct {
	nodes map[string]nodeNotes
	links [][2]string
}

// nodeNotes are short texts below the name of a node.
type nodeNotes []string

// scenarioOf finds the scenario of a recording in the file that the recording has. Another
// version of this program may not read it; then there is none.
func scenarioOf(r *recording.Recording) (script.Scenario, bool) {
	f, err := scriptfile.Read(r.File.Name, []byte(r.File.Text))
	if err != nil {
		return script.Scenario{}, false
	}
	for _, s := range slices.Concat(f.Scenarios, f.Twins) {
		if s.Name == r.Scenario {
			return s, true
		}
	}
	return script.Scenario{}, false
}

// networkOf is the network as the file describes it, or else as the taps show it.
func networkOf(r *recording.Recording, s script.Scenario, known bool) network {
	n := network{nodes: map[string]nodeNotes{}}
	for name, node := range r.Nodes {
		if len(node.Addresses) > 0 {
			n.nodes[name] = append(n.nodes[name], node.Addresses[0].String())
		}
		if node.Guest {
			n.nodes[name] = append(n.nodes[name], "Linux "+node.Kernel)
		}
	}
	if !known {
		n.links = linksOfTaps(r)
		return n
	}
	for _, l := range s.Network.Links {
		n.links = append(n.links, [2]string{l.Outer, l.Inner})
	}
	for _, d := range s.Network.Nodes {
		var does []string
		if len(d.SourceNAT) > 0 {
			does = append(does, "SNAT")
		}
		if len(d.DestinationNAT) > 0 {
			does = append(does, "DNAT")
		}
		if p, has := s.Programs[d.Name]; has {
			does = append(does, map[script.ProgramKind]string{script.HAProxy: "HAProxy", script.Nginx: "nginx", script.IPVS: "IPVS"}[p.Kind])
		}
		rules := 0
		for _, rule := range s.Network.Rules {
			if rule.Node == d.Name {
				rules++
			}
		}
		switch {
		case rules == 1:
			does = append(does, "1 rule")
		case rules > 1:
			does = append(does, fmt.Sprintf("%d rules", rules))
		}
		if len(does) > 0 {
			n.nodes[d.Name] = append(n.nodes[d.Name], strings.Join(does, ", "))
		}
	}
	return n
}

// linksOfTaps are the links on which a packet was seen. The interface at the inner end of a
// link has the name of the outer node.
func linksOfTaps(r *recording.Recording) (links [][2]string) {
	for _, p := range r.Packets {
		l := [2]string{p.Interface, p.Point}
		if _, is := r.Nodes[p.Interface]; is && !slices.Contains(links, l) {
			links = append(links, l)
		}
	}
	return links
}

// neighbours of each node.
func (n network) neighbours() map[string][]string {
	next := map[string][]string{}
	for _, l := range n.links {
		next[l[0]], next[l[1]] = append(next[l[0]], l[1]), append(next[l[1]], l[0])
	}
	return next
}

// depths are how many links each node is away from the first ones.
func (n network) depths(first []string) map[string]int {
	depth, next := map[string]int{}, n.neighbours()
	var queue []string
	begin := func(name string, at int) {
		if _, seen := depth[name]; !seen {
			depth[name] = at
			queue = append(queue, name)
		}
	}
	for _, f := range first {
		begin(f, 0)
	}
	for _, name := range slices.Sorted(maps.Keys(n.nodes)) {
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for _, to := range next[at] {
				begin(to, depth[at]+1)
			}
		}
		begin(name, 0) // what nothing leads to
	}
	return depth
}

// order sorts nodes as a packet meets them.
func (n network) order(names, first []string) []string {
	depth := n.depths(first)
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b string) int {
		if depth[a] != depth[b] {
			return depth[a] - depth[b]
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(names)
}

// between are the nodes on the shortest way from one node to another, with both.
func (n network) between(from, to string) (nodes []string) {
	depth, next := n.depths([]string{from}), n.neighbours()
	for at := to; ; {
		nodes = append(nodes, at)
		i := slices.IndexFunc(next[at], func(near string) bool { return depth[near] == depth[at]-1 })
		if at == from || i < 0 {
			slices.Reverse(nodes)
			return nodes
		}
		at = next[at][i]
	}
}

// owner is the node that has an address.
func owner(r *recording.Recording, a netip.Addr) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(r.Nodes)) {
		if slices.Contains(r.Nodes[name].Addresses, a) {
			return name, true
		}
	}
	return "", false
}
