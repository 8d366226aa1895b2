package results

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/page/pagetest"
	"twlab/harness/recording"
	"twlab/harness/topo"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// With -pages DIR, pages are left there, for whoever looks at them in a browser.
var pages = flag.String("pages", "", "`directory` that gets pages")

// driven is a cell that a run drives, with the rule that holds there.
type driven struct {
	family claim.Family
	cell   claim.Cell
	title  string
	rule   claim.Rule
}

// chosen remembers the cells of each release: to choose them takes a second.
var chosen = map[string][]driven{}

func chosenOn(r kernel.Release) []driven {
	if all, known := chosen[r.Text]; known {
		return all
	}
	kernels := claim.Alike(kernel.FactsOf(r))
	for _, f := range scenarios.Families() {
		for _, c := range f.Chosen(kernels) {
			rule, _ := f.Rule(c, kernels)
			chosen[r.Text] = append(chosen[r.Text], driven{f.Family, c, f.Name + " " + f.Describe(c), rule})
		}
	}
	return chosen[r.Text]
}

// left is the directory of a run that nobody has run: in each chosen cell, the kernel does what the
// rule says. change may spoil a result.
func left(t *testing.T, release string, change func(*claim.Result)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), release)
	if err := os.MkdirAll(filepath.Join(dir, "series"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := kernel.ParseRelease(release)
	if err != nil {
		t.Fatal(err)
	}
	s := suite{SuiteSucceeded: true, StartTime: time.Unix(1_700_000_000, 0), RunTime: time.Minute}
	for _, d := range chosenOn(r) {
		result := claim.Judge(d.family, d.cell, d.rule, wanted(d.rule))
		if change != nil {
			change(&result)
		}
		one := spec{LeafNodeType: "It", LeafNodeText: d.title + " is " + d.rule.Name, State: "passed", RunTime: time.Second}
		if !result.Agrees() {
			one.State = "failed"
			one.Failure.Message = "something else was seen" + pagetest.Hostile
		}
		add(t, &one, "cell", result)
		if d.family.Name == "share" {
			name := fmt.Sprintf("%d.jsonl", len(s.SpecReports))
			add(t, &one, "series", "/elsewhere/series/"+name)
			write(t, filepath.Join(dir, "series", name), `{"at":1000000000,"outcomes":{"Connected":30,"TimedOut":2},"late":1,"timeWait":{"balancer":20},"flows":{"gateway":30}}
{"at":2000000000,"outcomes":{"Connected":10},"timeWait":{"balancer":40},"flows":{"gateway":20}}
`)
		}
		s.SpecReports = append(s.SpecReports, one)
	}
	skipped := spec{LeafNodeType: "It", LeafNodeText: "something", State: "skipped"}
	skipped.Failure.Message = "not on this machine"
	s.SpecReports = append(s.SpecReports, skipped)
	text, err := json.Marshal([]suite{s})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, reportFile), string(text))
	write(t, filepath.Join(dir, preflightFile), "kernel: Linux "+release+"\nnetwork namespaces: yes\n")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wanted is evidence by which all that a rule expects is so.
func wanted(r claim.Rule) claim.Seen {
	seen := claim.Seen{Moved: map[topo.Role]kernel.Counters{}}
	for _, e := range r.Want {
		if len(e.OneOf) > 0 {
			seen.Note(e.What, e.OneOf[0])
			continue
		}
		role, counter, is := strings.Cut(e.What, " ")
		if is && strings.Contains(counter, ".") {
			if seen.Moved[topo.Role(role)] == nil {
				seen.Moved[topo.Role(role)] = kernel.Counters{}
			}
			seen.Moved[topo.Role(role)][counter] = uint64(e.Least)
			continue
		}
		seen.Count(e.What, e.Least)
	}
	if class, _ := ClassWanted(r); class == Late {
		seen.Count("syns", 2)
	}
	return seen
}

// add adds an entry to a spec, as Ginkgo writes it.
func add[T any](t *testing.T, s *spec, name string, value T) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var e entry
	e.Name, e.Value.AsJSON = name, string(text)
	s.ReportEntries = append(s.ReportEntries, e)
}

func readAll(t *testing.T, dirs ...string) (runs []Run) {
	t.Helper()
	for _, dir := range dirs {
		r, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	Sort(runs)
	return runs
}

func pageOf(t *testing.T, runs []Run, files ...File) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, runs, files); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// readBefore remembers the runs of predictedOn, by their releases: to make and read one takes a second.
var readBefore = map[string]Run{}

// predictedOn are runs on some releases in which all is as the rules say. A test may change the fields
// of a run, of its cells, and of its answers, and nothing to which these refer.
func predictedOn(t *testing.T, releases ...string) (runs []Run) {
	t.Helper()
	for _, release := range releases {
		r, known := readBefore[release]
		if !known {
			r = readAll(t, left(t, release, nil))[0]
			readBefore[release] = r
		}
		r.Cells, r.Answers, r.Releases = slices.Clone(r.Cells), maps.Clone(r.Answers), maps.Clone(r.Releases)
		runs = append(runs, r)
	}
	Sort(runs)
	return runs
}

// kept are the recordings that package diagnose keeps, read once for all tests.
var kept = sync.OnceValues(readKept)

func readKept() (all []File, err error) {
	names, err := filepath.Glob("../../harness/diagnose/testdata/*" + ending)
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%d recordings, %w", len(names), err)
	}
	for i, name := range names {
		r, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, File{[]string{OfCause, OfIncident}[i%2], r})
	}
	return all, nil
}

// recorded are these recordings. Tests share what they refer to.
func recorded(t *testing.T) []File {
	t.Helper()
	all, err := kept()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(all)
}

// usual has the page of the newest release with all recordings, made once for all tests.
var usual string

func usualPage(t *testing.T) string {
	t.Helper()
	if usual == "" {
		runs := predictedOn(t, releases[0])
		usual = pageOf(t, runs, append(recorded(t), packetsOf(t, runs[0].Cells[7].Title)...)...)
	}
	return usual
}

// packetsOf are a few packets, as those of cells.
func packetsOf(t *testing.T, cells ...string) (all []File) {
	t.Helper()
	r, err := readFile("../../harness/diagnose/testdata/a-TIME-WAIT-of-the-server-has-a-newer-timestamp--ip=4-" + ending)
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range cells {
		r.Scenario = cell
		all = append(all, File{OfCell, r})
	}
	return all
}

// Releases of which pages are made, from the newest to the oldest.
var releases = []string{"6.18.1-test", "6.1.100", "5.10.200", "4.19.300", "4.9.300"}

func TestReadsWhatASuiteLeaves(t *testing.T) {
	r := predictedOn(t, "6.18.1-test")[0]
	if r.Heading != "6.18" || r.Passed != len(r.Cells) || len(r.Cells) < 1000 || len(r.Failed) != 0 || !slices.Equal(r.Skipped["not on this machine"], []string{"something"}) {
		t.Errorf("kernel %s, %d passed, %d cells, failed %v, skipped %v", r.Heading, r.Passed, len(r.Cells), r.Failed, r.Skipped)
	}
	if _, err := Read(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v, want %v", err, ErrNone)
	}
	broken := t.TempDir()
	write(t, filepath.Join(broken, preflightFile), "kernel: Linux 6.18.1\n")
	write(t, filepath.Join(broken, reportFile), "[{")
	if _, err := Read(broken); err == nil || !strings.Contains(err.Error(), reportFile) {
		t.Errorf("a report that is cut off: %v", err)
	}
}

func TestKernelsOfRoles(t *testing.T) {
	dir := left(t, releases[0], nil)
	write(t, filepath.Join(dir, kernelsFile), `{"Facts": {"client": {"Release": {"Major": 5, "Minor": 10, "Text": "5.10.0"}}}}`)
	r := readAll(t, dir)[0]
	if r.Heading != "5.10 (client), 6.18" || r.Releases[topo.Client].Minor != 10 || r.Releases[topo.Balancer].Minor != 18 {
		t.Errorf("%s: %v", r.Heading, r.Releases)
	}
	// Each role has the defaults of its own kernel.
	r.Releases[topo.Client] = kernel.Mainline(4, 9)
	for _, k := range knobs(aboutUsers(families([]Run{r})), r.Releases) {
		want := map[string]string{"client": "0", "balancer": "2"}[k.Role]
		if k.Sysctl == "net.ipv4.tcp_tw_reuse" && k.Default != want {
			t.Errorf("tcp_tw_reuse of the %s is %q by default, want %q", k.Role, k.Default, want)
		}
	}
}

func TestEveryAnchorIsThereOnce(t *testing.T) {
	one, two := predictedOn(t, releases[0]), predictedOn(t, releases[0], releases[2])
	for _, c := range []struct {
		runs []Run
		page string
	}{
		{one, usualPage(t)},
		{two, pageOf(t, two, append(recorded(t), packetsOf(t, two[0].Cells[7].Title)...)...)},
	} {
		runs, page := c.runs, c.page
		elements := pagetest.Elements(t, page)
		if links := pagetest.AnchorsOf(t, elements); links < 1500 {
			t.Errorf("only %d links", links)
		}
		cells, squares := 0, 0
		for _, n := range elements {
			switch class := pagetest.Attribute(n, "class"); {
			case n.Data == "details" && class == "cell":
				cells++
			case n.Data == "a" && strings.HasPrefix(class, "q "):
				squares++
			}
		}
		if n := strings.Count(page, `<svg`); n < 20 {
			t.Errorf("only %d drawings", n)
		}
		if n := strings.Count(page, `<use href="#shape1"/>`); n != 1 {
			t.Errorf("%d cells have packets, want 1", n)
		}
		if cells != squares || cells < len(runs[0].Cells) {
			t.Errorf("%d cells, %d squares, %d in the newest run", cells, squares, len(runs[0].Cells))
		}
	}
}

func TestAPartOfTheSuiteIsSaidToBeOne(t *testing.T) {
	runs := predictedOn(t, releases[0])
	const says = "What is said here is about these alone"
	if strings.Contains(usualPage(t), says) {
		t.Error("a whole run is said to be a part")
	}
	runs[0].Cells = runs[0].Cells[:3]
	runs[0].Asked, runs[0].Specs, runs[0].Filter = 3, 1500, "family:tuple"+pagetest.Hostile
	page := pageOf(t, runs)
	if !strings.Contains(page, says) || !strings.Contains(page, "3 of 1500 specs were asked for (family:tuple") {
		t.Error("a part of the suite is not said to be one")
	}
	pagetest.NoMarkup(t, page, 2)
}

func TestWrongCellsAreSeenFirst(t *testing.T) {
	wrong := 0
	runs := readAll(t, left(t, releases[0], func(r *claim.Result) {
		if r.Rule == "tuple-older-timestamp-blocked" {
			r.Lines[0].Got, r.Lines[0].Right = "Connected", false
			wrong++
		}
	}))
	page := pageOf(t, runs)
	marked := 0
	for _, n := range pagetest.Elements(t, page) {
		if n.Data == "a" && strings.HasPrefix(pagetest.Attribute(n, "class"), "q wrong") {
			marked++
		}
	}
	says := fmt.Sprintf("%d specs failed; they are below. In %d cells something else was seen", wrong, wrong)
	if wrong == 0 || marked != wrong || !strings.Contains(page, says) {
		t.Errorf("%d wrong, %d marked, %q on the page: %t", wrong, marked, says, strings.Contains(page, says))
	}
}

// The spec of a scenario file that failed leads to what was seen.
func TestAFailedScenarioIsFound(t *testing.T) {
	runs := predictedOn(t, releases[0])
	runs[0].Cells = runs[0].Cells[:20] // it is no matter of cells
	r := recorded(t)[0].Recording
	runs[0].Failed = []Failure{{"Incident " + r.Scenario, "first line\n\tsecond line"}}
	i := slices.IndexFunc(r.Steps, func(s recording.Step) bool { return len(s.Findings) > 0 })
	if page := pageOf(t, runs, File{OfIncident, r}); strings.Contains(page, `<a href="#f1">Incident `) {
		t.Error("a failure leads to a scenario in which all was as expected")
	}
	r.Steps = slices.Clone(r.Steps)
	r.Steps[i].Findings = slices.Clone(r.Steps[i].Findings)
	r.Steps[i].Findings[0].Met = false
	page := pageOf(t, runs, File{OfIncident, r})
	pagetest.Anchors(t, page)
	if !strings.Contains(page, `<a href="#f1">Incident `) || !strings.Contains(page, "<pre>first line\n") {
		t.Error("a failure does not lead to its scenario, or has no lines")
	}
}

func TestNothingInResultsIsMarkup(t *testing.T) {
	dir := left(t, releases[0], func(r *claim.Result) {
		extra := r.Rule == "share-numbers"
		if !extra {
			return
		}
		family := r.Family
		pagetest.Spoil(reflect.ValueOf(r).Elem())
		r.Family = family
	})
	write(t, filepath.Join(dir, preflightFile), "kernel: Linux 6.18.1\n"+pagetest.Hostile+"\n")
	files, err := readKept() // its own, to be changed
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, packetsOf(t, "")...)
	for i := range files {
		pagetest.Spoil(reflect.ValueOf(&files[i].Recording).Elem())
	}
	runs := readAll(t, dir)
	runs[0].Cells = slices.DeleteFunc(runs[0].Cells, func(c Cell) bool { return c.Result.Family != "share" }) // others are not hostile
	files[len(files)-1].Recording.Scenario = runs[0].Cells[7].Title
	pagetest.NoMarkup(t, pageOf(t, runs, files...), 2)
}

func TestCellsOfTheUser(t *testing.T) {
	runs := predictedOn(t, releases[0])
	result := runs[0].Cells[0].Result
	runs[0].Cells = nil
	runs[0].Answers[2] = scenarios.Answered{Number: 2, Name: "ours" + pagetest.Hostile, Title: "tuple rfc1337=1" + pagetest.Hostile, Covered: true, Result: &result}
	runs[0].Answers[3] = scenarios.Answered{Number: 3, Name: "theirs"}
	page := pageOf(t, runs)
	pagetest.NoMarkup(t, page, 2)
	pagetest.Anchors(t, page)
	if !strings.Contains(page, "Your cells") || !strings.Contains(page, ">FAILED<") || strings.Contains(page, "In all 0 cells") {
		t.Error("the answers are not there, or there is more than they")
	}
	if all := questions(runs); len(all) != 3 || !strings.HasPrefix(all[1].Name, "ours") || all[1].Answers[0].Says != result.Because || all[0].Answers[0].Text != "–" {
		t.Errorf("%+v", all)
	}
}

func TestFilesAreKept(t *testing.T) {
	dir := t.TempDir()
	if none, err := Files(filepath.Join(dir, "none")); err != nil || len(none) > 0 {
		t.Errorf("no directory: %v, %v", none, err)
	}
	r := recording.Recording{
		Version: recording.FormatVersion, Scenario: "s", Planned: 1, Steps: []recording.Step{{Number: 1, Verb: "listen", What: "listen web:80"}},
		Before:  map[string]recording.State{"web": {Counters: map[string]uint64{"Tcp.OutRsts": 1, "Tcp.InErrs": 2}}},
		After:   map[string]recording.State{"web": {Counters: map[string]uint64{"Tcp.OutRsts": 3, "Tcp.InErrs": 2}}},
		Packets: []recording.Packet{{Point: "web", Interface: "eth0", Flags: "S", Raw: []byte{1}}},
	}
	if err := WriteFile(dir, "one", File{OfIncident, r}); err != nil {
		t.Fatal(err)
	}
	all, err := Files(dir)
	if err != nil || len(all) != 1 || all[0].Kind != OfIncident || all[0].Recording.Scenario != "s" {
		t.Fatalf("%v, %v", all, err)
	}
	again := all[0].Recording
	if want := (map[string]uint64{"Tcp.OutRsts": 3}); !reflect.DeepEqual(again.After["web"].Counters, want) || again.Packets[0].Raw != nil {
		t.Errorf("kept %v and %v, want %v and no frame", again.After["web"].Counters, again.Packets[0].Raw, want)
	}
	write(t, filepath.Join(dir, "cause-x"+ending), "x")
	if _, err := Files(dir); err == nil {
		t.Error("a file that is no recording was read")
	}
}

// asOfAWholeRun are as many recordings as the suite leaves: each of package diagnose three times, and
// the packets of one of them for each cell, whose times differ.
func asOfAWholeRun(t *testing.T, cells []Cell) (all []File) {
	t.Helper()
	some := recorded(t)
	for range 3 {
		all = append(all, some...)
	}
	for i := range cells {
		r := some[i%len(some)].Recording
		r.Scenario, r.Events = cells[i].Title, nil
		r.Packets = slices.Clone(r.Packets)
		for k := range r.Packets {
			r.Packets[k].Time = r.Packets[k].Time.Add(time.Duration(i*k) * time.Millisecond)
		}
		all = append(all, File{OfCell, r})
	}
	return all
}

func TestSizesOfPages(t *testing.T) {
	one := predictedOn(t, releases[0])
	for _, c := range []struct {
		runs  []Run
		files []File
		most  int
	}{
		{one, asOfAWholeRun(t, one[0].Cells), 5 << 20},
		{predictedOn(t, releases...), recorded(t), 10 << 20},
	} {
		page := pageOf(t, c.runs, c.files...)
		t.Logf("%d kernels: %d KB", len(c.runs), len(page)>>10)
		if len(page) > c.most {
			t.Errorf("%d kernels: %d bytes, want at most %d", len(c.runs), len(page), c.most)
		}
	}
}

func TestPagesForABrowser(t *testing.T) {
	if *pages == "" {
		t.Skip("without -pages, nobody looks at them")
	}
	for name, runs := range map[string][]Run{"suite.html": predictedOn(t, releases[0]), "suites.html": predictedOn(t, releases[0], releases[2])} {
		write(t, filepath.Join(*pages, name), pageOf(t, runs, append(recorded(t), packetsOf(t, runs[0].Cells[7].Title)...)...))
	}
}
