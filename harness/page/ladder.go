package page

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/svg"
)

// The sizes of a ladder.
const (
	timeWide  = 64.0
	laneGap   = 148.0
	rungHigh  = 34.0
	noteHigh  = 16.0
	gapHigh   = 30.0
	ladderTop = 30.0
	slant     = 6.0
	leastWide = 470.0                  // of what is written below an arrow
	pause     = 100 * time.Millisecond // from where on time that passes is shown
)

// drawLadder draws packets one below the other, each from the lane of the node that sent it to the
// lane of the node that saw it last. Times are those since the first packet.
func drawLadder(lives []*life, lanes []string, said map[string]words, id func(*life) string, label string) template.HTML {
	d := svg.Drawing{Label: label}
	l := rungs{Drawing: &d, clock: &d, every: time.Millisecond, said: said, id: id}
	l.draw(lives, lanes)
	return d.HTML()
}

// draw draws a ladder.
func (l *rungs) draw(lives []*life, lanes []string) {
	d := l.Drawing
	d.Width = max(leastWide, timeWide+float64(len(lanes)-1)*laneGap+2*50)
	l.x, l.lanes, l.told = map[string]float64{}, lanes, map[translation]bool{}
	l.y, l.began = ladderTop, lives[0].First().Time
	for i, name := range lanes {
		l.x[name] = timeWide + 50 + float64(i)*laneGap
		l.places = append(l.places, l.x[name])
	}
	for i, one := range lives {
		if i > 0 {
			l.passes(one, lives[:i])
		}
		said := l.said[sightingKey(one.First())]
		for _, text := range said.before {
			l.note("note knew", text)
		}
		l.rung(one, said)
		for _, text := range said.after {
			l.note("note outcome", text)
		}
	}
	d.Height = l.y + 8
	// The lanes are below everything that is drawn on them.
	var behind svg.Drawing
	for _, name := range lanes {
		behind.Text(l.x[name], 16, "node", short(name, laneGap-8))
	}
	behind.Verticals("lane", l.places, 24, d.Height)
	d.Before(&behind)
}

// rungs are the packets of a ladder, while they are drawn.
type rungs struct {
	*svg.Drawing
	clock  *svg.Drawing  // gets the times
	every  time.Duration // the least time from one that is written to the next
	said   map[string]words
	id     func(*life) string // of the row that an arrow leads to; nil if there are no rows
	x      map[string]float64
	places []float64 // the same, in the order of the lanes
	lanes  []string
	told   map[translation]bool
	y      float64
	began  time.Time
	last   time.Time // when the packet above was sent
	wrote  time.Time // the time that was written last
}

// passes shows that time passes until a packet is sent, and why.
func (l *rungs) passes(next *life, before []*life) {
	p := next.First()
	after := p.Time.Sub(l.last)
	if after < pause {
		return
	}
	why := ""
	for _, was := range slices.Backward(before) {
		w := was.First()
		if w.Seq == p.Seq && w.Flags == p.Flags && w.Point == p.Point && (next.syn || p.Payload > 0 || p.Is('F')) && w.Payload == p.Payload {
			why = ": no answer, so the " + next.what() + " is sent again"
			break
		}
	}
	middle := (l.places[0] + l.places[len(l.places)-1]) / 2
	l.Verticals("fold", l.places, l.y, l.y+gapHigh)
	l.clock.Text(middle, l.y+gapHigh/2+4, "gap middle", seconds(after)+why)
	l.y += gapHigh
}

// rung draws one packet.
func (l *rungs) rung(one *life, said words) {
	if l.id != nil {
		l.link(one)
	}
	way := one.way()
	from, to := l.x[way[0]], l.x[way[len(way)-1]]
	y := l.y + 20
	points := [][2]float64{{from, y}}
	for i, name := range way[1:] {
		points = append(points, [2]float64{l.x[name], y + slant*float64(i+1)/float64(len(way)-1)})
	}
	right := to > from || to == from && from < l.x[l.lanes[len(l.lanes)-1]]
	if len(way) > 1 {
		right = l.x[way[len(way)-1]] > l.x[way[len(way)-2]]
	}
	if one.End == diagnose.OnTheWay { // half of the link that it was on
		step := laneGap / 2
		if !right {
			step = -step
		}
		points = append(points, [2]float64{to + step, y + slant})
	}
	end := points[len(points)-1]
	ended := ""
	if one.lost() {
		ended = " ended"
		l.Cross(end[0], end[1])
	} else {
		l.Head(end[0], end[1], right)
	}
	l.Path("shaft"+ended, points...)
	for _, t := range one.translations() {
		l.Dot("turn"+ended, l.x[t.node], y+slant/2)
	}
	l.Text((points[0][0]+end[0])/2, y-4, "label", cmp.Or(said.label, one.what()))
	if l.id != nil {
		l.Close("a")
	}
	now := one.First().Time
	if l.wrote.IsZero() || now.Sub(l.wrote) >= l.every {
		l.clock.Text(timeWide-2, y+2, "time", offset(now.Sub(l.began)))
		l.wrote = now
	}
	l.y += rungHigh
	l.notes(one, said)
	l.last = now
}

// link begins the link that an arrow is.
func (l *rungs) link(one *life) {
	class := "arrow"
	if one.lost() {
		class += " ended"
	}
	l.Open("a", "href", "#"+l.id(one), "class", class)
	l.Element("title", fmt.Sprintf("Packet %d, %s: %s", one.Number, one.what(), one.ending()))
}

// notes says below a packet what happened to it.
func (l *rungs) notes(one *life, said words) {
	for _, t := range one.translations() {
		if !l.told[t] && l.id != nil {
			l.note("note", "● "+t.node+": now "+t.as)
		}
		l.told[t] = true
	}
	if one.reset != nil {
		l.note("note", "sent by "+one.reset.Node+": "+reason(*one.reset))
	}
	switch {
	case one.lost() && said.text != "" && one.drop != nil:
		l.note("note why", "✕ "+one.drop.Node+" "+said.text)
	case one.lost():
		l.note("note why", "✕ "+one.ending())
	case said.text != "" && !strings.HasPrefix(said.text, "dropped"):
		l.note("note", said.text)
	case one.unanswered:
		l.note("note", "reached "+one.Node+"; no SYN-ACK came")
	}
}

// note writes a text, on as many lines as it needs.
func (l *rungs) note(class, text string) {
	left := l.x[l.lanes[0]] + 8
	most := int((l.Width - left) / 6.6) // a letter of small text is so wide
	for text != "" {
		line := text
		if letters := []rune(text); len(letters) > most {
			at := strings.LastIndexByte(string(letters[:most]), ' ')
			if at <= 0 {
				at = len(string(letters[:most]))
			}
			line = text[:at]
		}
		text = strings.TrimSpace(strings.TrimPrefix(text, line))
		l.Text(left, l.y+10, class, line)
		l.y += noteHigh
	}
}

// seconds is a time that passes, as people say it.
func seconds(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	default:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", d.Seconds()), "0"), ".") + " s"
	}
}

// offset is a time since the beginning.
func offset(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
