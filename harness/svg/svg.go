// Package svg writes an SVG element by element. Every text and every attribute is escaped, so that
// nothing that is drawn is markup.
package svg

import (
	"fmt"
	"html"
	"html/template"
	"strings"

	"twlab/harness/report"
)

// Drawing is an SVG that is being written. Its classes are those of the style of package page.
type Drawing struct {
	b strings.Builder
	// Gathers makes one element of all paths of a class, and one group of all texts of a class:
	// less to write, where nobody needs to know which is which. Paths are below texts, and both
	// in the order of their first.
	Gathers      bool
	paths, texts gathered
	// Width and Height are its size, which may be known last. Label names it to those who do
	// not see it.
	Width, Height float64
	Label         string
}

// gathered is what was drawn, by class.
type gathered struct {
	classes []string
	of      map[string]*strings.Builder
}

// add adds to a class.
func (g *gathered) add(class, text string) {
	if g.of == nil {
		g.of = map[string]*strings.Builder{}
	}
	if g.of[class] == nil {
		g.classes = append(g.classes, class)
		g.of[class] = &strings.Builder{}
	}
	g.of[class].WriteString(text)
}

// At are the attributes of a position: pairs of a name and a value.
func At(x, y float64) []string { return []string{"x", Number(x), "y", Number(y)} }

// Number writes a coordinate.
func Number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// Open begins an element.
func (d *Drawing) Open(name string, a ...string) {
	d.begin(name, a)
	d.b.WriteString(">")
}

func (d *Drawing) begin(name string, a []string) {
	d.b.WriteString("<" + name)
	for i := 0; i+1 < len(a); i += 2 {
		d.b.WriteString(" " + a[i] + `="` + html.EscapeString(report.Plain(a[i+1])) + `"`)
	}
}

// Close ends it.
func (d *Drawing) Close(name string) { d.b.WriteString("</" + name + ">") }

// Element is one that has only a text.
func (d *Drawing) Element(name, text string, a ...string) {
	d.begin(name, a)
	if text == "" {
		d.b.WriteString("/>")
		return
	}
	d.b.WriteString(">")
	d.b.WriteString(html.EscapeString(report.Plain(text)))
	d.Close(name)
}

// Text writes a text at a position.
func (d *Drawing) Text(x, y float64, class, text string) {
	if !d.Gathers {
		d.Element("text", text, append(At(x, y), "class", class)...)
		return
	}
	var one Drawing
	one.Element("text", text, At(x, y)...)
	d.texts.add(class, one.b.String())
}

// path draws a path, which may consist of several.
func (d *Drawing) path(class, course string) {
	if d.Gathers {
		d.paths.add(class, course)
		return
	}
	d.Element("path", "", "d", course, "class", class)
}

// Line draws a straight line.
func (d *Drawing) Line(x1, y1, x2, y2 float64, class string) {
	d.Element("line", "", "x1", Number(x1), "y1", Number(y1), "x2", Number(x2), "y2", Number(y2), "class", class)
}

// Verticals draws straight lines from one height to another, at each of these places.
func (d *Drawing) Verticals(class string, places []float64, y1, y2 float64) {
	var b strings.Builder
	for _, x := range places {
		b.WriteString("M" + Number(x) + " " + Number(y1) + "V" + Number(y2))
	}
	d.path(class, b.String())
}

// Use draws what the page has under an ID, in the same coordinates.
func (d *Drawing) Use(id string) { d.Element("use", "", "href", "#"+id) }

// Path draws through points.
func (d *Drawing) Path(class string, points ...[2]float64) {
	d.path(class, through(points...))
}

// through is the course of a path.
func through(points ...[2]float64) string {
	var b strings.Builder
	for i, p := range points {
		b.WriteString(map[bool]string{true: "M", false: "L"}[i == 0] + Number(p[0]) + " " + Number(p[1]))
	}
	return b.String()
}

// Cross marks where something ended.
func (d *Drawing) Cross(x, y float64) {
	const r = 5
	d.path("cross", through([2]float64{x - r, y - r}, [2]float64{x + r, y + r})+through([2]float64{x - r, y + r}, [2]float64{x + r, y - r}))
}

// Dot is a filled circle.
func (d *Drawing) Dot(class string, x, y float64) {
	d.path(class, "M"+Number(x-4)+" "+Number(y)+"a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z")
}

// Head is the head of an arrow that goes to the right, or to the left.
func (d *Drawing) Head(x, y float64, right bool) {
	back := "-8"
	if !right {
		back = "8"
	}
	d.path("head", "M"+Number(x)+" "+Number(y)+"l"+back+"-4v8Z")
}

// Drawn is what was drawn so far, without the SVG around it.
func (d *Drawing) Drawn() template.HTML {
	return template.HTML(d.drawn()) //nolint:gosec // every text in it is escaped by element
}

// drawn is all that was drawn, what was gathered above the rest.
func (d *Drawing) drawn() string {
	all := Drawing{}
	all.b.WriteString(d.b.String())
	for _, class := range d.paths.classes {
		all.Element("path", "", "d", d.paths.of[class].String(), "class", class)
	}
	for _, class := range d.texts.classes {
		all.Open("g", "class", class)
		all.b.WriteString(d.texts.of[class].String())
		all.Close("g")
	}
	return all.b.String()
}

// Before puts another drawing behind all that was drawn so far.
func (d *Drawing) Before(behind *Drawing) {
	front := d.drawn()
	d.b.Reset()
	d.paths, d.texts = gathered{}, gathered{}
	d.b.WriteString(behind.drawn() + front)
}

// HTML is the whole SVG, scaled to the place it gets, but never so small that it cannot be read.
func (d *Drawing) HTML() template.HTML {
	const least = 0.84 // of its size
	size := fmt.Sprintf("0 0 %s %s", Number(d.Width), Number(d.Height))
	var whole Drawing
	whole.Open("div", "class", "drawing", "tabindex", "0", "role", "group", "aria-label", d.Label)
	whole.Open("svg", "viewBox", size, "width", Number(d.Width), "height", Number(d.Height), "class", sizeClass(d.Width*least))
	whole.b.WriteString(d.drawn())
	whole.Close("svg")
	whole.Close("div")
	return template.HTML(whole.b.String()) //nolint:gosec // every text in it is escaped by element
}

// sizeClass is the class that keeps a drawing from getting narrower than this: of no more than a
// few, since the page has no inline styles.
func sizeClass(least float64) string { return fmt.Sprintf("least%d", min(12, int(least/100))) }
