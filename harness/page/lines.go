package page

import (
	"fmt"
	"strings"

	"twlab/harness/recording"
	"twlab/harness/report"
)

// Lines are the packets of a recording, a line each, up to a number of them: when it was sent, what it
// is, the nodes that it came by, and where it ended if it did not arrive. "●" is a node that gave it
// other addresses or ports.
func Lines(r *recording.Recording, most int) string {
	var b strings.Builder
	lives := livesOf(r)
	for i, l := range lives {
		if i == most {
			fmt.Fprintf(&b, "and %d more\n", len(lives)-most)
			break
		}
		way := l.way()
		for k, node := range way {
			for _, t := range l.translations() {
				if t.node == node {
					way[k] = node + "●"
				}
			}
		}
		line := fmt.Sprintf("%s  %-7s  %s", offset(l.First().Time.Sub(lives[0].First().Time)), l.what(), strings.Join(way, " → "))
		if l.lost() {
			line += "  ✕ " + l.ending()
		}
		b.WriteString(report.Plain(line) + "\n")
	}
	return b.String()
}
