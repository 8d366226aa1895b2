package pcapng

import (
	"fmt"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/ladder"
	"twlab/harness/recording"
)

// place is an interface of a node.
type place struct{ node, name string }

// Taps are the interfaces where packets were recorded whose bytes the recording has, in the
// order of their names.
func Taps(r *recording.Recording) (all []Tap) {
	packets := map[place][]int{}
	for i, p := range r.Packets {
		if len(p.Raw) > 0 {
			at := place{p.Point, p.Interface}
			packets[at] = append(packets[at], i)
		}
	}
	peers := peersOf(r)
	count := map[string]int{}
	for at := range packets {
		count[at.node+"/"+peers[at]]++
	}
	for at, of := range packets {
		name := at.node + "/" + at.name
		if peer := peers[at]; peer != "" && count[at.node+"/"+peer] == 1 {
			name = at.node + "/" + peer
		}
		all = append(all, Tap{name, of})
	}
	slices.SortFunc(all, func(a, b Tap) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// peersOf finds the node at the other end of each interface's link: where packets that left
// came in; or the one after which the interface is called.
func peersOf(r *recording.Recording) map[place]string {
	peers := map[place]string{}
	for _, p := range r.Packets {
		if _, is := r.Nodes[p.Interface]; is {
			peers[place{p.Point, p.Interface}] = p.Interface
		}
	}
	for _, l := range diagnose.Lives(r) {
		for i := 1; i < len(l.Seen); i++ {
			if a, b := l.Seen[i-1], l.Seen[i]; a.Out && !b.Out && a.Point != b.Point {
				peers[place{a.Point, a.Interface}], peers[place{b.Point, b.Interface}] = b.Point, a.Point
			}
		}
	}
	return peers
}

// section says what the run has shown: the verdict, and the cause of each attempt that died.
func section(r *recording.Recording) string {
	text := fmt.Sprintf("%s: %v", r.Scenario, r.Conclusion())
	for _, d := range diagnose.Recording(r) {
		if d.Symptom != diagnose.Fine {
			text += fmt.Sprintf("\nstep %d, %v > %v %s: %s", d.Step, d.Attempt.Local, d.Attempt.Remote, d.Symptom, d.Short())
		}
	}
	return text
}

// comments are what is said of the packets by which a cause is proved: each that did not
// arrive, and each RST. It stands where the packet was seen last, and begins with the number
// that it has in the ladder of its attempt.
func comments(r *recording.Recording) map[int]string {
	type sighting struct {
		place
		nanoseconds int64
		seq         uint32
	}
	of := func(p recording.Packet) sighting {
		return sighting{place{p.Point, p.Interface}, p.Time.UnixNano(), p.Seq}
	}
	said := map[sighting]string{}
	for _, d := range diagnose.Recording(r) {
		if d.Symptom == diagnose.Fine {
			continue
		}
		for _, row := range ladder.Packets(r, d) {
			a := row.Arrow
			if a.End == ladder.Arrived && row.Text == "" && !a.Seen[0].Is('R') {
				continue
			}
			text := fmt.Sprintf("#p%d step %d, %s: %s", row.First, d.Step, d.Short(), a.Label)
			if row.Text != "" {
				text += ", " + row.Text
			}
			said[of(a.Seen[len(a.Seen)-1])] = text
		}
	}
	all := map[int]string{}
	for i, p := range r.Packets {
		if text := said[of(p)]; text != "" {
			all[i] = text
		}
	}
	return all
}
