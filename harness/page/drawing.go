package page

import (
	"fmt"
	"html"
	"html/template"
	"strings"

	"twlab/harness/report"
)

// drawing is an SVG that is written element by element. Every text and every attribute is escaped,
// so that nothing that a recording says is markup.
type drawing struct {
	b             strings.Builder
	width, height float64
	label         string
}

// attributes are pairs of a name and a value.
type attributes []string

// at are the attributes of a position.
func at(x, y float64) attributes { return attributes{"x", number(x), "y", number(y)} }

// number writes a coordinate.
func number(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// open begins an element.
func (d *drawing) open(name string, a ...string) {
	d.b.WriteString("<" + name)
	for i := 0; i+1 < len(a); i += 2 {
		d.b.WriteString(" " + a[i] + `="` + html.EscapeString(report.Plain(a[i+1])) + `"`)
	}
	d.b.WriteString(">")
}

// close ends it.
func (d *drawing) close(name string) { d.b.WriteString("</" + name + ">") }

// element is one that has only a text.
func (d *drawing) element(name, text string, a ...string) {
	d.open(name, a...)
	d.b.WriteString(html.EscapeString(report.Plain(text)))
	d.close(name)
}

// text writes a text at a position.
func (d *drawing) text(x, y float64, class, text string) {
	d.element("text", text, append(at(x, y), "class", class)...)
}

// line draws a straight line.
func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	d.element("line", "", "x1", number(x1), "y1", number(y1), "x2", number(x2), "y2", number(y2), "class", class)
}

// path draws through points.
func (d *drawing) path(class string, points ...[2]float64) {
	var b strings.Builder
	for i, p := range points {
		b.WriteString(map[bool]string{true: "M", false: "L"}[i == 0] + number(p[0]) + " " + number(p[1]))
	}
	d.element("path", "", "d", b.String(), "class", class)
}

// cross marks where something ended.
func (d *drawing) cross(x, y float64) {
	const r = 5
	d.path("cross", [2]float64{x - r, y - r}, [2]float64{x + r, y + r})
	d.path("cross", [2]float64{x - r, y + r}, [2]float64{x + r, y - r})
}

// head is the head of an arrow that goes to the right, or to the left.
func (d *drawing) head(x, y float64, right bool) {
	back := -8.0
	if !right {
		back = 8
	}
	d.element("path", "", "class", "head", "d", fmt.Sprintf("M%s %sL%s %sL%s %sZ",
		number(x), number(y), number(x+back), number(y-4), number(x+back), number(y+4)))
}

// HTML is the whole SVG, scaled to the place it gets, but never so small that it cannot be read.
func (d *drawing) HTML() template.HTML {
	const least = 0.84 // of its size
	size := fmt.Sprintf("0 0 %s %s", number(d.width), number(d.height))
	var whole drawing
	whole.open("div", "class", "drawing", "tabindex", "0", "role", "group", "aria-label", d.label)
	whole.open("svg", "viewBox", size, "width", number(d.width), "height", number(d.height), "class", sizeClass(d.width*least))
	whole.b.WriteString(d.b.String())
	whole.close("svg")
	whole.close("div")
	return template.HTML(whole.b.String()) //nolint:gosec // every text in it is escaped by element
}

// sizeClass is the class that keeps a drawing from getting narrower than this: of no more than a
// few, since the page has no inline styles.
func sizeClass(least float64) string { return fmt.Sprintf("least%d", min(12, int(least/100))) }
