package page

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/svg"
)

// The sizes of a drawn network.
const (
	boxWide, boxHigh = 124.0, 62.0
	boxGap, rowGap   = 56.0, 30.0
	mostInColumn     = 4
)

// place is a box, or several nodes in one.
type place struct {
	names       []string
	notes       []string
	column, row int
	x, y        float64
	end         string // what ended there
	of0         int    // boxes in its column
}

// picture draws a network: from the left to the right as a packet goes, with the way of one packet
// and the node where it ended.
func picture(n network, first []string, way []string, lost *life) template.HTML {
	places := placed(n, first, way)
	at := map[string]*place{}
	columns, rows := 0, 0
	for i := range places {
		for _, name := range places[i].names {
			at[name] = &places[i]
		}
		columns, rows = max(columns, places[i].column+1), max(rows, places[i].of0)
	}
	d := svg.Drawing{
		Width: float64(columns)*(boxWide+boxGap) - boxGap + 4, Height: float64(rows)*(boxHigh+rowGap) - rowGap + 4 + 18,
		Label: "The network: " + strings.Join(slices.Sorted(maps.Keys(n.nodes)), ", "),
	}
	for i := range places {
		p := &places[i]
		free := float64(rows-p.of0) * (boxHigh + rowGap) / 2
		p.x, p.y = 2+float64(p.column)*(boxWide+boxGap), 2+free+float64(p.row)*(boxHigh+rowGap)
	}
	drawn := map[[2]*place]bool{}
	for _, l := range n.links {
		a, b := at[l[0]], at[l[1]]
		if a == nil || b == nil || drawn[[2]*place{a, b}] {
			continue
		}
		drawn[[2]*place{a, b}] = true
		wire(&d, "wire", a, b)
	}
	for i := 1; i < len(way); i++ {
		if a, b := at[way[i-1]], at[way[i]]; a != nil && b != nil && a != b {
			wire(&d, "way", a, b)
		}
	}
	if lost != nil && len(way) > 0 {
		if p := at[way[len(way)-1]]; p != nil {
			p.end = endMark(lost)
		}
	}
	for i := range places {
		box(&d, &places[i])
	}
	return d.HTML()
}

func endMark(l *life) string {
	if l.End == diagnose.OnTheWay && l.drop == nil {
		return l.what() + " seen last"
	}
	return l.what() + " ends here"
}

// wire joins two boxes at the sides that face each other.
func wire(d *svg.Drawing, class string, a, b *place) {
	if a.column > b.column {
		a, b = b, a
	}
	x1, y1, x2, y2 := a.x+boxWide, a.y+boxHigh/2, b.x, b.y+boxHigh/2
	if a.column == b.column {
		x1, x2 = a.x+boxWide/2, b.x+boxWide/2
		y1, y2 = min(a.y, b.y)+boxHigh, max(a.y, b.y)
	}
	d.Line(x1, y1, x2, y2, class)
}

func box(d *svg.Drawing, p *place) {
	class := "box"
	if p.end != "" {
		class += " end"
	}
	d.Element("rect", "", append(svg.At(p.x, p.y), "width", svg.Number(boxWide), "height", svg.Number(boxHigh), "rx", "4", "class", class)...)
	name := p.names[0]
	if len(p.names) > 1 {
		name = fmt.Sprintf("%s … %s (%d)", p.names[0], p.names[len(p.names)-1], len(p.names))
	}
	middle, y := p.x+boxWide/2, p.y+18
	d.Text(middle, y, "node", short(name, boxWide))
	for _, note := range p.notes[:min(2, len(p.notes))] {
		y += 17
		d.Text(middle, y, "in detail", short(note, boxWide))
	}
	if p.end != "" {
		d.Text(middle, p.y+boxHigh+15, "in why", "✕ "+p.end)
	}
}

// placed gives each node a column, by how far it is from the first ones, and a row. Alike nodes
// of which there are many are one box.
func placed(n network, first, way []string) (all []place) {
	depth, next := n.depths(first), n.neighbours()
	columns := map[int][]string{}
	for name := range n.nodes {
		columns[depth[name]] = append(columns[depth[name]], name)
	}
	for _, column := range slices.Sorted(maps.Keys(columns)) {
		names := n.order(columns[column], first)
		var of []place
		for _, name := range names {
			alike := slices.IndexFunc(of, func(p place) bool {
				return !slices.Contains(way, name) && !slices.Contains(way, p.names[0]) && sameNodes(next[p.names[0]], next[name]) && digitless(name) == digitless(p.names[0])
			})
			if alike >= 0 && len(names) > mostInColumn {
				of[alike].names, of[alike].notes = append(of[alike].names, name), nil
				continue
			}
			of = append(of, place{names: []string{name}, notes: n.nodes[name], column: column})
		}
		for i := range of {
			of[i].row, of[i].of0 = i, len(of)
		}
		all = append(all, of...)
	}
	return all
}

func digitless(name string) string { return strings.TrimRight(name, "0123456789") }

func sameNodes(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// short cuts a text to a width in a drawing. A letter is some 7 wide there.
func short(text string, wide float64) string {
	letters := []rune(text)
	if most := int(wide / 7); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return text
}
