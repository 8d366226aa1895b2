package page

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/internal/kepttest"
	"twlab/harness/page/pagetest"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// kept is where package diagnose keeps its recordings.
const kept = "../diagnose/testdata"

var shared = kepttest.Shared(kept)

// recordings are those of package diagnose. Tests share what they refer to.
func recordings(t *testing.T) []recording.Recording {
	t.Helper()
	return inOrder(shared(t))
}

// ownRecordings are the same, read anew: a test may change all of them.
func ownRecordings(t *testing.T) []recording.Recording {
	t.Helper()
	return inOrder(kepttest.Recordings(t, kept))
}

func inOrder(byName map[string]recording.Recording) (all []recording.Recording) {
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all
}

// With -pages DIR, pages are left there, for whoever looks at them in a browser.
var pages = flag.String("pages", "", "`directory` that gets pages")

// written is the page of recordings.
func written(t *testing.T, all ...recording.Recording) string {
	t.Helper()
	var b strings.Builder
	if err := Scenarios(&b, []report.Run{{Recordings: all}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// whole is the page of all recordings, made once for all tests.
var whole struct {
	once sync.Once
	page string
}

func wholePage(t *testing.T) string {
	t.Helper()
	whole.once.Do(func() { whole.page = written(t, recordings(t)...) })
	return whole.page
}

func TestEveryAnchorIsThereOnce(t *testing.T) {
	if links := pagetest.Anchors(t, wholePage(t)); links < 100 {
		t.Errorf("only %d links", links)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnArrowForEachPacket(t *testing.T) {
	for _, r := range recordings(t) {
		arrows, folded, lives := 0, 0, -1
		for _, n := range pagetest.Elements(t, written(t, r)) {
			switch {
			case n.Data == "article":
				lives = number(t, pagetest.Attribute(n, "data-lives"))
			case n.Data == "a" && strings.HasPrefix(pagetest.Attribute(n, "class"), "arrow"):
				arrows++
			case pagetest.Attribute(n, "data-folded") != "":
				folded += number(t, pagetest.Attribute(n, "data-folded"))
			}
		}
		if arrows+folded != lives || lives != len(diagnose.Sent(&r, diagnose.Lives(&r))) {
			t.Errorf("%s: %d arrows and %d folded, %d packets on the page, %d in the recording", r.Scenario, arrows, folded, lives, len(diagnose.Sent(&r, diagnose.Lives(&r))))
		}
	}
}

// manyConnections is a recording with so many connections that not all can be drawn.
func manyConnections(t *testing.T) recording.Recording {
	t.Helper()
	for _, r := range recordings(t) {
		if r.Scenario != "a rule drops the SYN [ip=4]" {
			continue
		}
		var packets []recording.Packet
		for i := range 700 {
			for k, p := range r.Packets {
				if i%2 == 0 && k > 0 && i < 600 { // not all look the same
					break
				}
				p.Src = netip.AddrPortFrom(p.Src.Addr(), uint16(10000+i))
				p.Seq += uint32(i) << 8
				packets = append(packets, p)
			}
		}
		slices.SortStableFunc(packets, func(a, b recording.Packet) int { return a.Time.Compare(b.Time) })
		r.Packets = packets
		return r
	}
	t.Fatal("no recording of a rule that drops the SYN")
	return recording.Recording{}
}

func TestManyConnections(t *testing.T) {
	r := manyConnections(t)
	page := written(t, r)
	pagetest.Anchors(t, page)
	if len(page) > 1<<20 {
		t.Errorf("%d bytes, want at most a megabyte", len(page))
	}
	for i := range r.Packets { // each connection another way
		r.Packets[i].Payload = int(r.Packets[i].Src.Port())
	}
	page = written(t, r)
	pagetest.Anchors(t, page)
	if arrows := strings.Count(page, `class="arrow`); arrows != mostArrows || !strings.Contains(page, "more packets are not drawn") {
		t.Errorf("%d arrows, want %d and a word on the others", arrows, mostArrows)
	}
	if len(page) > 1<<20 {
		t.Errorf("%d bytes, want at most a megabyte", len(page))
	}
}

func TestNothingInARecordingIsMarkup(t *testing.T) {
	for _, r := range ownRecordings(t) {
		kept := r.File.Text
		pagetest.Spoil(reflect.ValueOf(&r).Elem())
		// Once as a file that cannot be read, and once as one that can.
		for _, text := range []string{r.File.Text, strings.ReplaceAll(kept, "name: ", "name: </script><img src=x onerror=alert(3)>")} {
			r.File.Text = text
			pagetest.NoMarkup(t, written(t, r), 1)
		}
	}
}

func TestThePolicyAllowsWhatIsThere(t *testing.T) {
	policy := ""
	elements := pagetest.Elements(t, written(t, recordings(t)[0]))
	for _, n := range elements {
		if pagetest.Attribute(n, "http-equiv") == "Content-Security-Policy" {
			policy = pagetest.Attribute(n, "content")
		}
		if pagetest.Attribute(n, "style") != "" {
			t.Errorf("<%s> has a style that the policy forbids", n.Data)
		}
	}
	for _, n := range elements {
		if n.Data == "script" || n.Data == "style" {
			if sum := sum(n.FirstChild.Data); !strings.Contains(policy, "'"+sum+"'") {
				t.Errorf("the policy %q does not have %s of <%s>", policy, sum, n.Data)
			}
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none'; img-src data:;") || strings.Contains(policy, "http") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
}

func TestTheAnswerComesFirst(t *testing.T) {
	want := map[string]string{
		"a rule drops the SYN [ip=4]":                             "A rule of gateway dropped the SYNs.",
		"nobody listens [ip=4]":                                   "server",
		"the gateway has no port left [ip=4]":                     "has no free port left for this destination",
		"the accept queue is full [ip=4]":                         "accept queue",
		"a rule of the server drops the SYN [ip=4]":               "A rule of server dropped the SYNs.",
		"a link is down behind the gateway [ip=4]":                "no carrier",
		"the client has no port left for this destination [ip=4]": "found no free port",
	}
	for _, r := range recordings(t) {
		says, wanted := want[r.Scenario]
		if !wanted {
			continue
		}
		delete(want, r.Scenario)
		a := NewArticle("s1", "", &r)
		if len(a.Answers) != 1 || !strings.Contains(a.Answers[0].Who, says) {
			t.Errorf("%s: %+v, want %q", r.Scenario, a.Answers, says)
		}
	}
	if len(want) > 0 {
		t.Errorf("no recordings of %v", slices.Sorted(maps.Keys(want)))
	}
}

func TestTheAnswerOfALoad(t *testing.T) {
	var r recording.Recording
	for _, one := range recordings(t) {
		if one.Scenario == "a rule drops the SYN [ip=4]" {
			r = one
		}
	}
	r.Steps = slices.Clone(r.Steps)
	r.Steps[1].Result = recording.Result{Load: &recording.Load{Outcomes: map[string]int{"TimedOut": 1}, SYNs: 3}}
	a := NewArticle("s1", "", &r)
	if a.Summary != "3 of 3 SYNs ended at gateway." && a.Summary != "3 of 3 SYNs were dropped by gateway." || a.SummaryClass != "bad" || a.Crowd != "step 2: TimedOut" {
		t.Errorf("%q, %s, %q", a.Summary, a.SummaryClass, a.Crowd)
	}
	r.Steps[1].Result.Load.Outcomes = map[string]int{"Connected": 1}
	if a := NewArticle("s1", "", &r); a.SummaryClass != "good" {
		t.Errorf("all connected: %q, %s", a.Summary, a.SummaryClass)
	}
}

func TestProofLeadsToItsEvidence(t *testing.T) {
	for _, r := range recordings(t) {
		if r.Scenario != "a rule drops the SYN [ip=4]" {
			continue
		}
		a := NewArticle("s1", "", &r).Answers[0]
		all := a.Proof
		for _, e := range a.Not {
			all = append(all, e.By)
		}
		want := map[string]string{"packets": "#s1-p", "rules": "#s1-rules", "counters": "#s1-c"}
		for _, p := range all {
			number := strings.TrimPrefix(p.Href, want[p.Kind])
			if _, err := strconv.Atoi(number); err != nil {
				t.Errorf("%q (%s) leads to %s, want a row %sN", p.Says, p.Kind, p.Href, want[p.Kind])
			}
		}
		if len(all) < 4 {
			t.Errorf("only %d facts", len(all))
		}
	}
}

func TestProofByALogLeadsToIt(t *testing.T) {
	for _, r := range recordings(t) {
		if r.Scenario != "the server behind the balancer closes before it answers [ip=4]" {
			continue
		}
		i := slices.IndexFunc(NewArticle("s1", "", &r).Answers, func(a answer) bool {
			return slices.ContainsFunc(a.Proof, func(p proof) bool { return p.Kind == "log" && p.Href == "#s1-programs" })
		})
		if i < 0 || !strings.Contains(written(t, r), `id="s1-programs"`) {
			t.Error("no proof leads to the log of the balancer")
		}
		return
	}
	t.Error("no such recording")
}

func TestAPageIsMadeTheSameEachTime(t *testing.T) {
	r := recordings(t)
	for range 3 {
		if again := written(t, r...); again != wholePage(t) {
			t.Fatal("two pages of one recording differ")
		}
	}
}

func TestPagesForABrowser(t *testing.T) {
	if *pages == "" {
		t.Skip("without -pages, nobody looks at them")
	}
	all := recordings(t)
	for i, r := range all {
		if err := os.WriteFile(filepath.Join(*pages, fmt.Sprintf("scenario%02d.html", i)), []byte(written(t, r)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	spoilt := ownRecordings(t)
	for i := range spoilt {
		pagetest.Spoil(reflect.ValueOf(&spoilt[i]).Elem())
	}
	for name, all := range map[string][]recording.Recording{"scenarios.html": all, "hostile.html": spoilt[:5]} {
		if err := os.WriteFile(filepath.Join(*pages, name), []byte(written(t, all...)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
