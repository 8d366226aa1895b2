package ladder

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Width is how many columns a line has at most.
const Width = 100

// The columns of the text, and how much may stand there.
const (
	leftOf   = 15 // columns before the first lane: time and numbers
	widest   = 16 // columns from lane to lane
	narrow   = 5
	comments = 42 // columns that are kept free for what is said of a packet
	mostRows = 60
)

// style are the characters of lines.
type style struct{ lane, line, gap rune }

// Text draws the ladder in lines of at most [Width] columns. With ascii, in ASCII alone, as
// far as names of nodes are. Nothing in it is made safe for a terminal; that is its caller's.
func (l Ladder) Text(ascii bool) []string {
	s := style{'│', '─', '·'}
	if ascii {
		s = style{'|', '-', '.'}
	}
	step := widest
	if n := len(l.Lanes); n > 1 {
		step = min(widest, max(narrow, (Width-leftOf-comments)/(n-1)))
	}
	t := text{l, s, step}
	lines := append(wrap(l.Title, Width), t.head())
	for i, row := range l.Rows {
		if i == mostRows {
			lines = append(lines, fmt.Sprintf("%*sand %d more lines", leftOf, "", len(l.Rows)-mostRows))
			break
		}
		lines = append(lines, t.row(row)...)
	}
	for _, note := range l.Notes {
		for _, line := range wrap(note, Width-2) {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// text draws rows.
type text struct {
	Ladder
	style
	step int // columns from lane to lane
}

// column is where a lane is drawn.
func (t text) column(lane int) int { return leftOf + lane*t.step }

// head names the lanes.
func (t text) head() string {
	line := []rune(strings.Repeat(" ", Width))
	copy(line[2:], []rune("time"))
	for i, lane := range t.Lanes {
		name := []rune(cut(lane.Node, t.step-1))
		if at := max(t.column(i)-len(name)/2, leftOf-2); at < Width {
			copy(line[at:], name)
		}
	}
	return strings.TrimRight(string(line), " ")
}

// row draws a row, and what does not fit beside it below.
func (t text) row(r Row) []string {
	line := []rune(strings.Repeat(" ", max(Width, t.column(len(t.Lanes)))+t.step))
	for i := range t.Lanes {
		line[t.column(i)] = t.lane
	}
	when := fmt.Sprintf("%7.3f", r.At.Seconds())
	numbers := fmt.Sprint(r.First)
	if r.Last > r.First {
		numbers = fmt.Sprintf("%d-%d", r.First, r.Last)
	}
	said := r.Text
	switch r.Kind {
	case Packet:
		if left := t.arrow(line, *r.Arrow); left != "" {
			said = strings.TrimSuffix(left+": "+said, ": ")
		}
	case Gap:
		when, numbers = "", ""
		for i := t.column(0); i <= t.column(len(t.Lanes)-1); i += 2 {
			line[i] = t.gap
		}
	case Outcome:
		numbers = ""
		line[t.column(r.Lane)] = '*'
	case Tuple, Note:
		when, numbers = "", ""
	case Repeat:
	}
	copy(line, []rune(fmt.Sprintf("%s %s", when, cut(numbers, leftOf-2-len(when)))))
	return t.beside(line, said)
}

// beside puts words to the right of a drawing, in as many lines as they need.
func (t text) beside(line []rune, said string) (lines []string) {
	at := t.column(len(t.Lanes)-1) + 3
	for i := len(line) - 1; i >= at-1; i-- { // an arrow that ends behind the last lane
		if line[i] != ' ' {
			at = i + 3
			break
		}
	}
	room := max(Width-at, 12)
	for i, part := range wrap(said, room) {
		if i > 0 {
			for k := range line {
				line[k] = ' '
			}
			for k := range t.Lanes {
				line[t.column(k)] = t.lane
			}
		}
		lines = append(lines, cut(strings.TrimRight(string(line[:min(at, len(line))])+part, " "), Width))
	}
	return lines
}

// arrow draws the way of a packet, and returns its label if there is no room for it.
func (t text) arrow(line []rune, a Arrow) (left string) {
	direction := 1
	if a.Back {
		direction = -1
	}
	from, to := t.column(a.From), t.column(a.To)
	last := to
	if a.End == Lost || a.End == Unseen {
		last = to + direction*t.step/2
	}
	turn := a.turn()
	if turn >= 0 { // it came back
		last = t.column(turn)
		direction = 1
		if last < from {
			direction = -1
		}
	}
	last = max(last, leftOf-t.step/2, 0)
	lane := func(at int) bool { return (at-leftOf)%t.step == 0 && at >= leftOf && (at-leftOf)/t.step < len(t.Lanes) }
	for at := from + direction; at*direction < last*direction; at += direction {
		if !lane(at) {
			line[at] = t.line
		}
	}
	begins := from
	if a.Outside && from-direction*t.step/2 > leftOf {
		begins = from - direction*t.step/2
		for at := begins; at*direction < from*direction; at += direction {
			line[at] = t.line
		}
		line[begins], line[from-direction] = '?', heads[direction]
	}
	left = t.label(line, a.Label, min(begins, last), max(begins, last))
	if turn >= 0 {
		line[from+direction] = heads[-direction]
	}
	for _, stop := range append(a.Via, Stop{Lane: a.To}) {
		at := t.column(stop.Lane)
		if at != from {
			line[at-direction] = heads[direction]
		}
		if stop.Translated {
			line[at] = '~'
		}
	}
	switch a.End {
	case Ended:
		line[to] = 'x'
	case Lost:
		line[last] = 'x'
	case Unseen:
		line[last] = '?'
	case Arrived:
	}
	return left
}

var heads = map[int]rune{1: '>', -1: '<'}

// label writes a label into the first stretch of a line that has room for it.
func (t text) label(line []rune, label string, low, high int) (left string) {
	words := []rune(" " + label + " ")
	run := 0
	for at := low + 1; at < high; at++ {
		if line[at] != t.line {
			run = 0
			continue
		}
		if run++; run >= len(words)+2 { // a line before it, a head behind
			copy(line[at-len(words):], words)
			return ""
		}
	}
	return label
}

// wrap breaks words into lines of some columns.
func wrap(said string, room int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(said) {
		n := len(lines) - 1
		if lines[n] != "" && utf8.RuneCountInString(lines[n])+1+utf8.RuneCountInString(word) > room {
			lines, n = append(lines, ""), n+1
		}
		lines[n] = strings.TrimSpace(lines[n] + " " + cut(word, room))
	}
	return lines
}

// cut shortens a text in the middle, so that its end is still there.
func cut(text string, most int) string {
	all := []rune(text)
	if len(all) <= most {
		return text
	}
	if most < 5 {
		return string(all[:max(most, 0)])
	}
	head := (most - 2) / 2
	return string(all[:head]) + ".." + string(all[len(all)-(most-2-head):])
}
