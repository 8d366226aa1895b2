package results

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"twlab/harness/page"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/topo"
	"twlab/scenarios/nat"
)

//go:embed suite.tmpl
var suiteTemplate string

//go:embed suite.js
var suiteScript string

// File is a recording that a suite has made: of a scenario file, or of the packets of a cell.
type File struct {
	Kind      string
	Recording recording.Recording
}

// view is all that the page shows.
type view struct {
	Title         string
	Runs          []runView
	Questions     []question
	Headings      []string
	Sections      []section
	Steps         []kernelStep
	Families      []*family
	Cells         int
	Knobs         []knob
	Effects       []effect
	Heads         []link
	Combinations  []combination
	Loads         []loadView
	Profiles      []profileView
	Skipped       []skipped
	Incidents     []brief
	Causes        []brief
	AllCauses     []string
	Shapes        template.HTML // of the cells' packets
	Data          template.JS
	Failed, Wrong int
}

type runView struct {
	Heading, Release, Began, Took, Name, Broken string
	Part                                        string // which specs were asked for, if not all
	Cells, Agree, Passed                        int
	Failed                                      []Failure
	Preflight                                   []string
}

// question is a cell of the user's own, with the answer of each run.
type question struct {
	Name, Title string
	Answers     []answer
}

type answer struct{ Text, Class, Says, More string }

// questions are those of all runs, in the order of the file.
func questions(runs []Run) (all []question) {
	last := 0
	for i := range runs {
		for number := range runs[i].Answers {
			last = max(last, number)
		}
	}
	for number := 1; number <= last; number++ {
		q := question{Answers: make([]answer, len(runs))}
		for i := range runs {
			a, there := runs[i].Answers[number]
			if !there {
				q.Answers[i] = answer{Text: "–", Class: "plain"}
				continue
			}
			q.Name, q.Title = report.Plain(a.Name), report.Plain(a.Title)
			q.Answers[i] = answer{Text: report.Plain(a.Outcome()), Class: "bad"}
			if a.Result == nil {
				continue
			}
			q.Answers[i].Class = ClassOf(a.Result.Seen).CSS()
			if q.Answers[i].Says = "no claim covers this"; a.Covered {
				q.Answers[i].Says = report.Plain(a.Result.Because)
			}
			q.Answers[i].More = plainText(a.Result.String())
		}
		all = append(all, q)
	}
	return all
}

// plainText makes a text of several lines plain.
func plainText(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(report.Plain(strings.TrimRight(line, "\n")) + "\n")
	}
	return b.String()
}

type skipped struct {
	Heading, Why string
	N            int
}

type profileView struct {
	nat.Profile
	Places, Keeps, Most string
	Cells               []*cell
}

// Write writes the page of runs, the newest kernel first. files are what the scenario files have
// shown that the suite runs.
func Write(to io.Writer, runs []Run, files []File) error {
	v := view{Families: families(runs)}
	v.Shapes = packets(v.Families, files)
	for i := range runs {
		v.Headings = append(v.Headings, report.Plain(runs[i].Heading))
		v.Runs = append(v.Runs, head(&runs[i]))
		v.Failed += len(runs[i].Failed)
		for _, why := range sortedKeys(runs[i].Skipped) {
			v.Skipped = append(v.Skipped, skipped{runs[i].Heading, report.Plain(why), runs[i].Skipped[why]})
		}
	}
	for _, f := range v.Families {
		v.Cells += f.Cells
		for _, c := range f.cells() {
			if c.Wrong {
				v.Wrong++
			}
		}
	}
	v.Sections, v.Steps = claims(runs, v.Families), steps(runs, v.Families)
	about := aboutUsers(v.Families)
	if len(runs) > 0 {
		v.Knobs = knobs(about, runs[0].Releases)
		v.Effects = effects(about, v.Knobs, 0)
		v.Heads, v.Combinations = combinations(about, 0)
	}
	v.Loads, v.Profiles = loads(runs, v.Families), profiles(v.Families)
	v.Incidents, v.Causes = briefs(files)
	v.AllCauses = linkCauses(v.Families, v.Causes)
	v.Title, v.Questions = title(&v), questions(runs)
	data, err := picks(&v, runs, about)
	if err != nil {
		return err
	}
	v.Data = data
	t, err := template.New("suite").Parse(suiteTemplate)
	if err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	var body bytes.Buffer
	if err := t.ExecuteTemplate(&body, "suite", &v); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	return page.Write(to, v.Title, template.HTML(body.String()), suiteScript) //nolint:gosec // a template has made it
}

// mostPackets is how many packets are drawn of a cell.
const mostPackets = 30

// packets draws the packets of cells where the cells are. shapes are what the drawings refer to.
func packets(all []*family, files []File) (shapes template.HTML) {
	of := map[string]*recording.Recording{}
	for i := range files {
		if files[i].Kind == OfCell {
			of[files[i].Recording.Scenario] = &files[i].Recording
		}
	}
	var sketches page.Sketches
	for _, f := range all {
		for _, c := range f.cells() {
			for _, one := range c.on {
				if one == nil {
					continue
				}
				if r, there := of[one.Title]; there {
					c.Packets = sketches.Draw(r, mostPackets)
				}
				break
			}
		}
	}
	return sketches.Shapes()
}

func title(v *view) string {
	kernels := "no kernel"
	switch len(v.Headings) {
	case 0:
	case 1:
		kernels = "Linux " + v.Headings[0]
	default:
		kernels = fmt.Sprintf("Linux %s to %s", v.Headings[len(v.Headings)-1], v.Headings[0])
	}
	return "twlab: what " + kernels + " does"
}

func head(r *Run) runView {
	v := runView{
		Heading: report.Plain(r.Heading), Release: report.Plain(r.Releases[topo.Balancer].String()), Name: report.Plain(r.Name), Broken: report.Plain(r.Broken),
		Began: r.Began.UTC().Format("2006-01-02 15:04 UTC"), Took: r.Took.Round(time.Second).String(), Passed: r.Passed, Cells: len(r.Cells),
	}
	if r.Asked < r.Specs {
		v.Part = fmt.Sprintf("%d of %d specs were asked for", r.Asked, r.Specs)
		if r.Filter != "" {
			v.Part += " (" + report.Plain(r.Filter) + ")"
		}
	}
	for i := range r.Cells {
		if r.Cells[i].Result.Agrees() {
			v.Agree++
		}
	}
	for _, f := range r.Failed {
		v.Failed = append(v.Failed, Failure{report.Plain(f.Spec), report.Plain(f.Message)})
	}
	for _, line := range r.Preflight {
		v.Preflight = append(v.Preflight, report.Plain(line))
	}
	return v
}

// profiles are the kinds of gateways, each with its cells.
func profiles(all []*family) (views []profileView) {
	for _, p := range nat.Profiles() {
		v := profileView{Profile: p, Places: fmt.Sprintf("%d for each address", p.Ports), Keeps: "not published", Most: "–"}
		if p.PerClient {
			v.Places = fmt.Sprintf("%d for each client", p.Ports)
		}
		if p.Timeout > 0 {
			v.Keeps, v.Most = fmt.Sprintf("%.0f s", p.Timeout.Seconds()), fmt.Sprintf("%.4g/s", p.Ceiling())
		}
		if p.Evicts {
			v.Most += "; none since Linux 6.5"
		}
		for _, f := range all {
			if f.Name != "profile" {
				continue
			}
			for _, c := range f.cells() {
				if c.values["profile"] == p.Name {
					v.Cells = append(v.Cells, c)
				}
			}
		}
		views = append(views, v)
	}
	return views
}

// picks are what the script needs of cells that is not in the page already: for each cell the kind
// of its way, for each family its axes that set a sysctl, and what rules say of pairs of kernels.
func picks(v *view, runs []Run, about []*family) (template.JS, error) {
	type one struct {
		ID  string `json:"id"`
		Way way    `json:"way,omitempty"`
	}
	data := struct {
		Kernels []string                     `json:"kernels"`
		Cells   []one                        `json:"cells"`
		Knobs   map[string]map[string]string `json:"knobs"` // of each family
		Pairs   map[string]string            `json:"pairs"`
	}{Kernels: v.Headings, Knobs: map[string]map[string]string{}, Pairs: predicted(runs, about)}
	for _, f := range about {
		data.Knobs[f.Name] = map[string]string{}
		for _, a := range f.Axes {
			if a.Sysctl.Sysctl != "" {
				data.Knobs[f.Name][knobID(a)] = a.Name
			}
		}
		for _, c := range f.cells() {
			data.Cells = append(data.Cells, one{ID: c.ID, Way: wayOf(f, c)})
		}
	}
	text, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("make the page: %w", err)
	}
	return template.JS(text), nil //nolint:gosec // json.Marshal escapes <, > and &
}
