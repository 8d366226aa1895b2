package page

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
)

//go:embed scenario.tmpl
var scenarioTemplate string

// mostUnfolded is how many scenarios a page shows at once. Of more, each is folded: nobody reads all
// of them, and a browser need not lay them out.
const mostUnfolded = 3

// mostArrows is how many packets of one scenario are drawn. So many are listed, and all that are
// drawn.
const mostArrows = 400

// Scenarios writes a page of what scenarios have shown, on one choice of kernels or on several.
func Scenarios(to io.Writer, runs []report.Run) error {
	var all []Article
	for _, run := range runs {
		for i := range run.Recordings {
			all = append(all, NewArticle(fmt.Sprintf("s%d", len(all)+1), run.Kernel, &run.Recordings[i]))
		}
	}
	data := struct {
		Title    string
		Articles []Article
		Several  bool // runs
		Folded   bool // each article is folded, since there are many
		Problems []string
	}{Articles: all, Several: len(runs) > 1, Folded: len(all) > mostUnfolded}
	for _, run := range runs {
		if run.Problem != "" {
			data.Problems = append(data.Problems, report.Plain(strings.TrimPrefix(run.Kernel+": "+run.Problem, ": ")))
		}
	}
	data.Title = "twlab: no scenario"
	if len(all) == 1 {
		data.Title = all[0].Name
	} else if len(all) > 1 {
		good := 0
		for _, a := range all {
			if a.Class == "good" {
				good++
			}
		}
		data.Title = fmt.Sprintf("twlab: %d of %d scenarios as expected", good, len(all))
	}
	var body bytes.Buffer
	if err := templates().ExecuteTemplate(&body, "scenarios", data); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	return Write(to, data.Title, template.HTML(body.String()), "") //nolint:gosec // a template has made it
}

// templates are those of scenarios.
func templates() *template.Template {
	return template.Must(template.New("scenarios").Funcs(template.FuncMap{"code": code}).Parse(scenarioTemplate))
}

// code shows what is between backticks as code.
func code(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) //nolint:gosec // each part is escaped
}

// Article is all that a page says of one recording.
type Article struct {
	ID, Name, Kernel, Took, Began string
	Class                         string // of its verdict: "good", "bad" or "warn"
	Verdict                       string
	Summary                       string // for a list: the first answer
	SummaryClass, Crowd           string // the colour of it, and what became of loads
	Problem, LeftOut              string
	Belief, Truth                 string
	Sources                       []string
	Answers                       []answer
	Picture                       template.HTML
	Steps                         []step
	Ladders                       []rail
	Lives, Undrawn                int // packets, and those that no arrow stands for
	Told                          int // packets that are arrows of ladders that are open
	NoPackets                     string
	Missing                       []string
	Account                       account
	Counters                      []counter
	Tables                        []table
	Settings                      []setting
	Packets                       []packet
	File                          recording.File
	Lines                         string // the text of the file
	Command, By                   string
	Logs                          []log
	Has                           map[string]bool // anchors
}

type setting struct {
	Node, Name, Value string
	Said              bool
}

type log struct{ Node, Configuration, Said string }

// view is a recording while its article is made.
type view struct {
	r           *recording.Recording
	found       []diagnose.Diagnosis
	prefix      string
	lives       []*life
	said        map[string]words
	drawn, open map[int]bool    // the numbers of the packets that are arrows, and of those in open ladders
	has         map[string]bool // the anchors that there are
	counterRows []row
	ruleRows    []row
}

func (v *view) id(format string, n int) string { return v.prefix + "-" + fmt.Sprintf(format, n) }
func (v *view) section(name string) string     { return v.prefix + "-" + name }
func (v *view) packetID(l *life) string        { return v.id("p%d", l.Number) }

// NewArticle makes an article. All its anchors begin with id; kernel is what the user calls the
// choice of kernels, if there are several.
func NewArticle(id, kernel string, r *recording.Recording) Article {
	found := diagnose.Recording(r)
	v := view{r: r, prefix: id, found: found, lives: livesOf(r), said: wordsOf(r, found), drawn: map[int]bool{}, open: map[int]bool{}, has: map[string]bool{}}
	s, known := scenarioOf(r)
	a := Article{
		ID: id, Name: report.Plain(r.Scenario), Kernel: report.Plain(strings.TrimSpace(kernel + " " + report.KernelsOf(*r))),
		Took: seconds(r.Took), Began: r.Began.UTC().Format("2006-01-02 15:04:05 UTC"),
		Class: verdictClass(r.Conclusion()), Verdict: r.Conclusion().String(),
		Problem: report.Plain(r.Problem()), LeftOut: report.Plain(report.LeftOut(*r)),
		NoPackets: report.Plain(r.Missing[recording.OfPackets]), By: report.Plain(r.By),
		File: recording.File{Name: report.Plain(r.File.Name)}, Lines: lines(r.File.Text),
		Lives: len(v.lives), Has: v.has,
	}
	a.Command = "twlab run " + a.File.Name
	if known {
		a.Belief, a.Truth, a.Sources = report.Plain(s.Belief), report.Plain(s.Truth), plain(s.Sources)
	}
	for _, name := range []string{"steps", "ladder", "packets", "counters"} {
		v.has[v.section(name)] = true
	}
	v.has[v.section("programs")] = len(r.Programs) > 0
	for _, kind := range slices.Sorted(maps.Keys(r.Missing)) {
		a.Missing = append(a.Missing, report.Plain(fmt.Sprintf("%s: %s", kind, r.Missing[kind])))
	}
	a.Picture, a.Ladders = v.drawings(s, known)
	a.Packets = v.packets()
	for _, p := range a.Packets {
		if p.Open {
			a.Told++
		}
	}
	a.Counters, a.Tables, a.Account = v.counters(), v.tables(), v.account()
	a.Steps = v.steps()
	a.Answers = v.answers()
	a.Summary, a.SummaryClass, a.Crowd = v.summary(a.Answers, a.Account)
	a.Settings = v.settings()
	for _, node := range slices.Sorted(maps.Keys(r.Programs)) {
		p := r.Programs[node]
		a.Logs = append(a.Logs, log{report.Plain(node), lines(p.Configuration), lines(p.Log)})
	}
	a.Undrawn = a.Lives - len(v.drawn)
	for _, r := range a.Ladders {
		for _, l := range r.Ladder {
			a.Undrawn -= l.Folded
		}
	}
	return a
}

func verdictClass(v recording.Verdict) string {
	switch v {
	case recording.AsExpected:
		return "good"
	case recording.NotAsExpected:
		return "bad"
	default:
		return "warn"
	}
}

// lines makes a text of several lines plain.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.ReplaceAll(report.Plain(strings.TrimRight(line, "\r\n")), `\x09`, "\t") + "\n")
	}
	return b.String()
}

// summary is one sentence on the whole, with the class of its colour, and what became of loads.
func (v *view) summary(all []answer, packets account) (says, class, crowd string) {
	if problem := v.r.Problem(); problem != "" {
		return report.Plain(problem), "warn", ""
	}
	if len(all) > 0 {
		return all[0].Who, all[0].Class, ""
	}
	attempts, failed, loads := 0, false, []string(nil)
	for _, s := range v.r.Steps {
		attempts += len(s.Result.Attempts)
		if l := s.Result.Load; l != nil {
			loads = append(loads, fmt.Sprintf("step %d: %s", s.Number, s.Result.Outcomes()))
			failed = failed || len(l.Outcomes) > 1 || l.Outcomes["Connected"] == 0
		}
	}
	crowd = report.Plain(strings.Join(loads, "; "))
	switch {
	case failed:
		return packets.whoEndedSYNs(), "bad", crowd
	case attempts == 0 && len(loads) == 0:
		return "No connection was tried.", "warn", ""
	default:
		return "Every connection got in at once, and nothing was lost.", "good", crowd
	}
}

// drawings are the network, and a ladder for each step in which packets were sent.
func (v *view) drawings(s script.Scenario, known bool) (template.HTML, []rail) {
	n := networkOf(v.r, s, known)
	first := v.first()
	var way []string
	var lost *life
	for _, d := range v.found {
		if d.Symptom == diagnose.Fine || lost != nil {
			continue
		}
		for _, l := range v.lives {
			if len(d.SYNs) > 0 && v.isOf(d, l) {
				lost, way = l, l.way()
			}
		}
	}
	var picture0 template.HTML
	if len(n.nodes) > 0 {
		picture0 = picture(n, first, way, lost)
	}
	return picture0, v.rails(n, first)
}

// first are the nodes that connections come from.
func (v *view) first() (names []string) {
	for _, s := range v.r.Steps {
		for _, a := range s.Result.Attempts {
			if !slices.Contains(names, a.Node) {
				names = append(names, a.Node)
			}
		}
	}
	return names
}

func (v *view) settings() (all []setting) {
	for _, node := range slices.Sorted(maps.Keys(v.r.Nodes)) {
		for _, name := range slices.Sorted(maps.Keys(v.r.Nodes[node].Settings)) {
			s := v.r.Nodes[node].Settings[name]
			all = append(all, setting{report.Plain(node), report.Plain(name), report.Plain(s.Value), s.Said})
		}
	}
	return all
}
