//go:build linux

package play

import (
	"context"
	"strings"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// setLink takes a link down or up.
func (p *player) setLink(ctx context.Context, a script.SetLink) error {
	name := p.link(a.A, a.B)
	if a.For > 0 {
		_, err := p.lab.Flap(ctx, name, a.For)
		return err
	}
	return p.lab.SetLink(ctx, name, a.Up)
}

// link is the name that lab has for the link between two nodes.
func (p *player) link(a, b string) string {
	n, _ := p.plan.Node(a)
	e, _ := n.Toward(b)
	if !e.Outer {
		n, _ = p.plan.Node(b)
		e, _ = n.Toward(a)
	}
	return n.Name + "/" + e.Interface
}

// impair sets what becomes of packets that one end of a link sends, or both.
func (p *player) impair(ctx context.Context, a script.Impair) error {
	for _, end := range [][2]string{{a.A, a.B}, {a.B, a.A}} {
		if a.From != "" && a.From != end[0] {
			continue
		}
		if err := p.lab.Impair(ctx, end[0], end[1], a.Sends); err != nil {
			return err
		}
	}
	return nil
}

// impairment describes what becomes of the packets of a link.
func impairment(a script.Impair) string {
	words := []string{a.A + " -- " + a.B}
	if a.From != "" {
		words = append(words, "from "+a.From)
	}
	if a.Sends == (topo.Impairment{}) {
		words = append(words, "as before")
	}
	return strings.Join(words, " ")
}
