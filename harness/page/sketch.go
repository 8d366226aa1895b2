package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/svg"
)

// Sketches draws the packets of many recordings in little space. Drawings that differ in nothing but
// their times are in the page once, as a shape; each shows its own times over it.
type Sketches struct {
	shapes []template.HTML
	number map[template.HTML]int // of a shape, from 1 on
}

// apart is the least time from one that a sketch says to the next: what a reader looks for are
// timers of the kernel, and shorter times are those of the machine.
const apart = 10 * time.Millisecond

// Draw draws up to so many packets of a recording; it is empty if there is none.
func (s *Sketches) Draw(r *recording.Recording, most int) template.HTML {
	lives := livesOf(r)
	if len(lives) == 0 {
		return ""
	}
	v := view{r: r}
	some := lives[:min(most, len(lives))]
	label := "Packets"
	if len(some) < len(lives) {
		label = fmt.Sprintf("The first %d of %d packets", len(some), len(lives))
	}
	shape, times := svg.Drawing{Gathers: true}, svg.Drawing{Gathers: true, Label: label}
	l := rungs{Drawing: &shape, clock: &times, every: apart, said: meant(some)}
	var first []string // who begins connections stands at the left
	for _, one := range some {
		if one.syn {
			first = append(first, one.First().Point)
		}
	}
	l.draw(some, v.lanes(some, networkOf(r, script.Scenario{}, false), first))
	if n := len(lives) - len(some); n > 0 {
		l.note("note", fmt.Sprintf("and %d more packets", n))
	}
	times.Width, times.Height = shape.Width, l.y+8
	var whole svg.Drawing
	whole.Use(s.id(shape.Drawn()))
	times.Before(&whole)
	return times.HTML()
}

// id is that of a shape, which it keeps if it is new.
func (s *Sketches) id(shape template.HTML) string {
	if s.number == nil {
		s.number = map[template.HTML]int{}
	}
	if s.number[shape] == 0 {
		s.shapes = append(s.shapes, shape)
		s.number[shape] = len(s.shapes)
	}
	return fmt.Sprintf("shape%d", s.number[shape])
}

// Shapes are what the drawings refer to. They must be in the page once, and are not seen there.
func (s *Sketches) Shapes() template.HTML {
	var b strings.Builder
	b.WriteString(`<svg class="shapes" aria-hidden="true"><defs>`)
	for i, shape := range s.shapes {
		fmt.Fprintf(&b, `<g class="shape" id="shape%d">%s</g>`, i+1, shape)
	}
	b.WriteString("</defs></svg>")
	return template.HTML(b.String()) //nolint:gosec // package svg has written each
}

// meant says more of packets than their flags do, where no ports and numbers are shown: which
// SYN begins another connection, and which ACK is not of the SYN before it.
func meant(lives []*life) map[string]words {
	said := map[string]words{}
	say := func(l *life, label string) { said[sightingKey(l.First())] = words{label: label} }
	last, open := map[int]*life{}, map[int]bool{} // the last SYN of each connection, and whether it waits for its answer
	for _, l := range lives {
		p, syn := l.First(), last[l.connection]
		switch {
		case l.syn:
			if syn == nil && len(last) > 0 {
				say(l, "SYN, another five-tuple")
			} else if syn != nil && syn.First().Seq != p.Seq {
				say(l, "SYN, same five-tuple")
			}
			last[l.connection], open[l.connection] = l, true
		case !open[l.connection] || p.Point == syn.First().Point:
		case p.Ack == syn.First().Seq+1:
			open[l.connection] = false
		case l.what() == "ACK":
			say(l, "ACK, but not of this SYN")
		}
	}
	return said
}
