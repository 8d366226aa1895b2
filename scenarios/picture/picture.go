// Package picture draws the lab of the suite as the plan of its network has it, with what each
// role can do to a connection. lab.svg is made of it.
package picture

import (
	"fmt"
	"html"
	"io"
	"strings"

	"twlab/harness/topo"
)

// The lab that is drawn: everything that a topology can have, and no more nodes than can be
// seen at a glance.
func shown() topo.Topology {
	return topo.Topology{
		Clients:  3,
		Gateway:  topo.GatewaySpec{Kind: topo.Masquerade},
		Balancer: topo.BalancerSpec{Kind: topo.DNAT},
		Servers:  2,
	}
}

// column is what is said of a role.
type column struct {
	role  topo.Role
	title string
	says  []string // what it can do to a connection
}

func columns() []column {
	return []column{
		{topo.Client, "clients", []string{"no free local port:", "EADDRNOTAVAIL,", "and no packet leaves"}},
		{topo.Gateway, "gateway: NAT", []string{"no free port: the SYN ends", "here (insert_failed); or gives", "a five-tuple again too early"}},
		{topo.Balancer, "balancer: HAProxy, IPVS, ...", []string{"a TIME_WAIT answers the SYN", "by a bare ACK; a full accept", "queue drops it"}},
		{topo.Server, "servers", []string{"a full accept queue;", "a RST in the middle"}},
	}
}

// The sizes.
const (
	wide, high   = 150, 44 // a box
	apart, row   = 80, 64  // between columns, from row to row
	top, side    = 56, 20
	lineHeight   = 16
	belowTheRows = 26
)

// at is the middle of a box.
type at struct{ x, y int }

// Draw writes the SVG.
func Draw(to io.Writer) error {
	plan, err := shown().Network().Plan()
	if err != nil {
		return fmt.Errorf("picture: plan of the lab: %w", err)
	}
	all, rows := columns(), 0
	byRole := map[topo.Role][]topo.Planned{}
	for _, n := range plan.Nodes {
		byRole[n.Role] = append(byRole[n.Role], n)
		rows = max(rows, len(byRole[n.Role]))
	}
	places := map[string]at{}
	for i, c := range all {
		nodes := byRole[c.role]
		for j, n := range nodes {
			places[n.Name] = at{side + i*(wide+apart) + wide/2, top + high/2 + (rows-len(nodes))*row/2 + j*row}
		}
	}
	var b strings.Builder
	width, bottom := 2*side+len(all)*wide+(len(all)-1)*apart, top+(rows-1)*row+high+belowTheRows
	begin(&b, width, bottom+3*lineHeight)
	for _, l := range plan.Network.Links {
		from, to := places[l.Outer], places[l.Inner]
		fmt.Fprintf(&b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", from.x, from.y, to.x, to.y)
	}
	for i, c := range all {
		middle := side + i*(wide+apart) + wide/2
		text(&b, middle, top/2, "title", c.title)
		for _, n := range byRole[c.role] {
			box(&b, n, places[n.Name])
		}
		for j, line := range c.says {
			text(&b, middle, bottom+j*lineHeight, "says", line)
		}
	}
	b.WriteString("</svg>\n")
	_, err = io.WriteString(to, b.String())
	return err
}

// begin opens the drawing. Its colours follow those of the reader's screen.
func begin(b *strings.Builder, width, height int) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="t">
<!-- Generated from scenarios/picture by go test ./scenarios/picture -update. -->
<title id="t">A lab: clients behind a NAT gateway, a balancer, and servers behind it</title>
<style>
text { font: 13px sans-serif; text-anchor: middle; fill: #24292f }
.title { font-weight: bold }
.address { font: 12px monospace }
.says { fill: #9a3412 }
rect { fill: #f6f8fa; stroke: #57606a }
line { stroke: #57606a; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .says { fill: #fdba74 } rect { fill: #161b22; stroke: #8b949e } line { stroke: #8b949e } }
</style>
`, width, height)
}

// box draws a node with its address.
func box(b *strings.Builder, n topo.Planned, p at) {
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", p.x-wide/2, p.y-high/2, wide, high)
	text(b, p.x, p.y-3, "name", n.Name)
	text(b, p.x, p.y+lineHeight-2, "address", n.Addr.String())
}

func text(b *strings.Builder, x, y int, class, s string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, html.EscapeString(s))
}
