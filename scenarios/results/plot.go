package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"twlab/harness/report"
	"twlab/harness/svg"
)

// interval is what happened in a part of a load, and what the tables held at its end.
type interval struct {
	At       time.Duration  `json:"at"`
	Outcomes map[string]int `json:"outcomes"`
	Late     int            `json:"late"`
	TimeWait map[string]int `json:"timeWait"`
	Flows    map[string]int `json:"flows"`
}

// loadView is a load over time, and what became of its connections.
type loadView struct {
	Name, Href, Heading string
	Class               Class
	Bars                []bar
	Distribution, SVG   template.HTML
}

// bar is a part of what became of all connections or SYNs.
type bar struct {
	Name  string
	N     int64
	Class string
}

// loads are those of all cells that have a series, on the newest kernel.
func loads(runs []Run, all []*family) (views []loadView) {
	for _, f := range all {
		for _, c := range f.cells() {
			for i, one := range c.on {
				if one == nil || len(one.Series) == 0 {
					continue
				}
				v := loadView{Name: f.Name + " " + c.Values, Href: "#" + c.ID, Heading: runs[i].Heading, Class: Class(c.Classes[i])}
				for _, b := range []struct{ what, class string }{
					{"connected", "good"}, {"late", "warn"}, {"failed", "bad"}, {"timed out", "bad"}, {"undecided", "plain"},
					{"refused by the client", "bad"}, {"refused by the gateway", "bad"}, {"refused by the clock", "warn"}, {"refused by the number", "warn"},
					{"refused by the queue", "bad"}, {"refused by the endpoint", "bad"},
				} {
					if n, there := numberOf(one.Result.Seen, b.what); there && n > 0 {
						v.Bars = append(v.Bars, bar{b.what, n, b.class})
					}
				}
				v.Distribution = distribution(v.Bars, v.Name)
				if rows, err := intervals(one.Series); err == nil && len(rows) > 0 {
					v.SVG = plot(rows, v.Name)
				}
				views = append(views, v)
				break
			}
		}
	}
	return views
}

// distribution draws how the connections and SYNs of a load divide, as parts of one bar.
func distribution(bars []bar, label string) template.HTML {
	var sum int64
	for _, b := range bars {
		if b.Name != "late" { // those are among the connected
			sum += b.N
		}
	}
	if sum == 0 {
		return ""
	}
	d := svg.Drawing{Width: plotLeft + plotWide + plotRight, Height: 30, Label: report.Plain("What became of " + label)}
	x := plotLeft
	for _, b := range bars {
		if b.Name == "late" {
			continue
		}
		wide := float64(b.N) / float64(sum) * plotWide
		d.Element("rect", "", append(svg.At(x, 6), "width", svg.Number(max(wide-1, 1)), "height", "18", "class", "part "+b.Class)...)
		if text := fmt.Sprintf("%s %d", b.Name, b.N); float64(len(text))*7 < wide {
			d.Element("text", text, append(svg.At(x+wide/2, 19), "class", "part-name middle")...)
		}
		x += wide
	}
	return d.HTML()
}

func intervals(series []byte) (rows []interval, err error) {
	for line := range bytes.Lines(series) {
		var r interval
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("series: %w", err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// The sizes of a plot.
const (
	plotLeft, plotRight = 44.0, 12.0
	plotWide, plotHigh  = 460.0, 92.0
	plotGap             = 38.0
)

// line is a quantity over time.
type line struct {
	name  string
	at    []float64 // seconds
	value []float64
}

// plot draws two panels over one axis of time: outcomes in each interval, and how full the tables
// were.
func plot(rows []interval, label string) template.HTML {
	names, tables := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		for name := range r.Outcomes {
			names[name] = true
		}
		for role, n := range r.TimeWait {
			tables["TIME_WAIT of the "+role] = tables["TIME_WAIT of the "+role] || n > 0
		}
		for role, n := range r.Flows {
			tables["conntrack of the "+role] = tables["conntrack of the "+role] || n > 0
		}
	}
	var outcomes, full []line
	for _, name := range slices.Sorted(maps.Keys(names)) {
		outcomes = append(outcomes, lineOf(rows, name, func(r interval) int { return r.Outcomes[name] }))
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		kind, role, _ := strings.Cut(name, " of the ")
		if !tables[name] {
			continue
		}
		full = append(full, lineOf(rows, name, func(r interval) int {
			if kind == "TIME_WAIT" {
				return r.TimeWait[role]
			}
			return r.Flows[role]
		}))
	}
	d := svg.Drawing{Width: plotLeft + plotWide + plotRight, Label: report.Plain("Load over time: " + label)}
	y := panel(&d, 16, "outcomes in each interval", outcomes)
	if len(full) > 0 {
		y = panel(&d, y+plotGap, "in the tables at its end", full)
	}
	d.Height = y + 20
	return d.HTML()
}

func lineOf(rows []interval, name string, of func(interval) int) line {
	l := line{name: name}
	for _, r := range rows {
		l.at, l.value = append(l.at, r.At.Seconds()), append(l.value, float64(of(r)))
	}
	return l
}

// panel draws lines, each with its name at the side, and returns where it ends.
func panel(d *svg.Drawing, top float64, title string, lines []line) (bottom float64) {
	d.Text(plotLeft, top-2, "tick", title)
	top += 8
	most, until := 1.0, 0.001
	for _, l := range lines {
		most, until = max(most, slices.Max(l.value)), max(until, slices.Max(l.at))
	}
	bottom = top + plotHigh
	x := func(at float64) float64 { return plotLeft + at/until*plotWide }
	y := func(value float64) float64 { return bottom - value/most*plotHigh }
	d.Line(plotLeft, bottom, plotLeft+plotWide, bottom, "axis")
	d.Line(plotLeft, top, plotLeft+plotWide, top, "grid")
	d.Element("text", fmt.Sprintf("%.0f", most), append(svg.At(plotLeft-6, top+4), "class", "tick end")...)
	d.Element("text", "0", append(svg.At(plotLeft-6, bottom+4), "class", "tick end")...)
	d.Text(plotLeft, bottom+15, "tick", "0 s")
	d.Element("text", fmt.Sprintf("%.1f s", until), append(svg.At(plotLeft+plotWide, bottom+15), "class", "tick end")...)
	for i, l := range lines {
		points := make([][2]float64, 0, len(l.at)+1)
		for k := range l.at {
			points = append(points, [2]float64{x(l.at[k]), y(l.value[k])})
		}
		kind := fmt.Sprintf("curve curve%d", i%6)
		if len(points) > 1 {
			d.Path(kind, points...)
		}
		for _, p := range points {
			d.Element("circle", "", "cx", svg.Number(p[0]), "cy", svg.Number(p[1]), "r", "2.5", "class", fmt.Sprintf("dot curve%d", i%6))
		}
	}
	// The names are below, in the order of the curves, each with a sample of its line.
	at := bottom + 34
	left := plotLeft
	for i, l := range lines {
		wide := 30 + 7*float64(len(l.name))
		if left+wide > plotLeft+plotWide && left > plotLeft {
			left, at = plotLeft, at+18
		}
		d.Line(left, at-4, left+18, at-4, fmt.Sprintf("curve curve%d", i%6))
		d.Text(left+23, at, "tick", l.name)
		left += wide
	}
	return at
}
