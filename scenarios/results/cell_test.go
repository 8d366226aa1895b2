package results

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/page/pagetest"
	"twlab/harness/topo"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

func TestEvidenceIsSorted(t *testing.T) {
	r := claim.Result{
		Lines: []claim.Line{
			{What: "outcome", Wanted: "Connected", Got: "Connected", Right: true},
			{What: "late ms", Wanted: "at most 499", Got: "11", Right: true},
			{What: "paws rejects", Wanted: "0", Got: "0", Right: true},
			{What: "answers", Wanted: "SYN-ACK", Got: "ACK"},
		},
		Seen: claim.Seen{Moved: map[topo.Role]kernel.Counters{
			topo.Client:   {"Tcp.InSegs": 4},
			topo.Balancer: {"Tcp.InSegs": 4, "TcpExt.PAWSTimewait": 1},
		}},
	}
	for _, pair := range [][2]string{{"outcome", "Connected"}, {"timer", "gone"}, {"challenges", "0"}} {
		r.Seen.Note(pair[0], pair[1])
	}
	want := evidence{
		Wrong: []claim.Line{{What: "answers", Wanted: "SYN-ACK", Got: "ACK"}},
		Right: []claim.Line{{What: "outcome", Got: "Connected", Right: true}, {What: "late ms", Wanted: "at most 499", Got: "11", Right: true}},
		None:  "paws rejects",
		Also:  "timer gone",
		Moved: []moved{{"balancer", "TcpExt.PAWSTimewait +1"}},
	}
	if got := evidenceOf(r); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// What a cell says of how it is had again must find the same cell.
func TestACellIsHadAgain(t *testing.T) {
	runs := predictedOn(t, releases[0])
	kernels := claim.Alike(kernel.FactsOf(runs[0].Releases[topo.Client]))
	told, lines := 0, 0
	for _, f := range families(runs) {
		for _, c := range f.cells() {
			if !c.Told {
				lines++
				if !strings.HasPrefix(c.Again, "- {family: "+f.Name+", axes: {") {
					t.Errorf("%s %s is had again by %q", f.Name, c.Values, c.Again)
				}
				continue
			}
			told++
			words := strings.Fields(strings.TrimPrefix(c.Again, "twlab show "))
			family, found, err := scenarios.Named(words, kernels)
			if err != nil || family.Name != f.Name || !reflect.DeepEqual(found.Values, c.values) {
				t.Errorf("%s is %v, %v; want %s %s", c.Again, found.Values, err, f.Name, c.Values)
			}
		}
	}
	if told < 400 || lines < 100 {
		t.Errorf("%d cells are told, %d are lines of a file", told, lines)
	}
}

func TestCausesOfCells(t *testing.T) {
	const cause = "time-wait-older-timestamp" // of rule tuple-older-timestamp-answered
	none := predictedOn(t, releases[0])
	for i := range none[0].Cells {
		none[0].Cells[i].Result.Cause = ""
	}
	if page := pageOf(t, none); strings.Contains(page, `<select name="cause">`) || strings.Contains(page, "data-cause") {
		t.Error("there is a filter by causes, and there is no cause")
	}
	page := usualPage(t)
	cells := 0
	for _, n := range pagetest.Elements(t, page) {
		if n.Data == "details" && pagetest.Attribute(n, "data-cause") == cause {
			cells++
		}
	}
	says := `</code></a> ` // a link to where it is brought about, and its sentence
	if cells == 0 || !strings.Contains(page, "<option>"+cause+"</option>") || !strings.Contains(page, "<code>"+cause+says) {
		t.Errorf("%d cells have the cause; it is among the filters: %t, with its rule: %t",
			cells, strings.Contains(page, "<option>"+cause+"</option>"), strings.Contains(page, "<code>"+cause+says))
	}
	hostile := left(t, releases[0], func(r *claim.Result) {
		if r.Rule == "tuple-newer-number" {
			r.Cause = pagetest.Hostile
		}
	})
	runs := readAll(t, hostile)
	runs[0].Cells = slices.DeleteFunc(runs[0].Cells, func(c Cell) bool { return c.Result.Family != "tuple" }) // others are not hostile
	pagetest.NoMarkup(t, pageOf(t, runs), 2)
}

// What must not happen is said once, where it is the same in all cells of a rule.
func TestNothingIsSaidOfEachCellThatIsSoInAll(t *testing.T) {
	spoilt := false
	runs := readAll(t, left(t, releases[0], func(r *claim.Result) {
		i := slices.IndexFunc(r.Lines, func(l claim.Line) bool { return l.Wanted == "0" })
		if r.Rule == "tuple-older-timestamp-answered" && i >= 0 && !spoilt {
			r.Lines[i].Got, r.Lines[i].Right, spoilt = "1", false, true
		}
	}))
	shared := 0
	for _, f := range families(runs) {
		for _, r := range f.Rules {
			each := slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Seen.None != "" })
			if r.None != "" && each || r.Name == "tuple-older-timestamp-answered" && !each {
				t.Errorf("%s: of all cells %q, of each: %t", r.Name, r.None, each)
			}
			if r.None != "" {
				shared++
			}
		}
	}
	if !spoilt || shared < 50 {
		t.Errorf("%d rules say it once", shared)
	}
}
