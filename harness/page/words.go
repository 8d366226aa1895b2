package page

import (
	"fmt"

	"twlab/harness/diagnose"
	"twlab/harness/ladder"
	"twlab/harness/recording"
)

// words are what package ladder says of a packet, so that a page and a terminal say the same.
type words struct {
	label, text string
	// before is what a node knew when it came, after what the client's call returned then.
	before, after []string
}

// sightingKey identifies a packet by where it was seen first.
func sightingKey(p recording.Packet) string {
	return fmt.Sprintf("%s %s %v %d %d %s", p.Point, p.Interface, p.Out, p.Time.UnixNano(), p.Seq, p.Flags)
}

// wordsOf are those of all packets of the attempts that were diagnosed, by sighting.
func wordsOf(r *recording.Recording, found []diagnose.Diagnosis) map[string]words {
	all := map[string]words{}
	for _, d := range found {
		mine := map[string]words{} // an earlier attempt may have said something of the same packet
		for _, row := range ladder.Packets(r, d) {
			if row.Kind == ladder.Packet && len(row.Arrow.Seen) > 0 {
				mine[sightingKey(row.Arrow.Seen[0])] = words{label: row.Arrow.Label, text: row.Text}
			}
		}
		var pending []string
		last := ""
		for _, row := range ladder.New(r, d).Rows {
			switch row.Kind {
			case ladder.Note:
				pending = append(pending, row.Text)
			case ladder.Outcome:
				w := mine[last]
				w.after = append(w.after, row.Text)
				mine[last] = w
			case ladder.Packet, ladder.Repeat:
				if row.Kind == ladder.Packet && len(row.Arrow.Seen) > 0 {
					last = sightingKey(row.Arrow.Seen[0])
				} else if row.Last > 0 && row.Last <= len(d.Lives) {
					last = sightingKey(d.Lives[row.Last-1].First())
				}
				w := mine[last]
				w.before = append(w.before, pending...)
				mine[last], pending = w, nil
			case ladder.Gap, ladder.Tuple:
			}
		}
		for key, w := range mine {
			if _, there := all[key]; !there {
				all[key] = w
			}
		}
	}
	return all
}
