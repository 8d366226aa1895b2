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
	// Width and Height are its size, which may be known last. Label names it to those who do
	// not see it.
	Width, Height float64
	Label         string
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
	d.Element("text", text, append(At(x, y), "class", class)...)
}

// Line draws a straight line.
func (d *Drawing) Line(x1, y1, x2, y2 float64, class string) {
	d.Element("line", "", "x1", Number(x1), "y1", Number(y1), "x2", Number(x2), "y2", Number(y2), "class", class)
}

// Path draws through points.
func (d *Drawing) Path(class string, points ...[2]float64) {
	d.Element("path", "", "d", through(points...), "class", class)
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
	d.Element("path", "", "class", "cross", "d",
		through([2]float64{x - r, y - r}, [2]float64{x + r, y + r})+through([2]float64{x - r, y + r}, [2]float64{x + r, y - r}))
}

// Head is the head of an arrow that goes to the right, or to the left.
func (d *Drawing) Head(x, y float64, right bool) {
	back := -8.0
	if !right {
		back = 8
	}
	d.Element("path", "", "class", "head", "d", fmt.Sprintf("M%s %sL%s %sL%s %sZ",
		Number(x), Number(y), Number(x+back), Number(y-4), Number(x+back), Number(y+4)))
}

// Before puts another drawing behind all that was drawn so far.
func (d *Drawing) Before(behind *Drawing) {
	front := d.b.String()
	d.b.Reset()
	d.b.WriteString(behind.b.String() + front)
}

// HTML is the whole SVG, scaled to the place it gets, but never so small that it cannot be read.
func (d *Drawing) HTML() template.HTML {
	const least = 0.84 // of its size
	size := fmt.Sprintf("0 0 %s %s", Number(d.Width), Number(d.Height))
	var whole Drawing
	whole.Open("div", "class", "drawing", "tabindex", "0", "role", "group", "aria-label", d.Label)
	whole.Open("svg", "viewBox", size, "width", Number(d.Width), "height", Number(d.Height), "class", sizeClass(d.Width*least))
	whole.b.WriteString(d.b.String())
	whole.Close("svg")
	whole.Close("div")
	return template.HTML(whole.b.String()) //nolint:gosec // every text in it is escaped by element
}

// sizeClass is the class that keeps a drawing from getting narrower than this: of no more than a
// few, since the page has no inline styles.
func sizeClass(least float64) string { return fmt.Sprintf("least%d", min(12, int(least/100))) }
