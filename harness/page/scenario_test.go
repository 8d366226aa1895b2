package page

import (
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"twlab/harness/recording"
	"twlab/harness/report"
)

// recordings are those of package diagnose.
func recordings(t *testing.T) (all []recording.Recording) {
	t.Helper()
	names, err := filepath.Glob("../diagnose/testdata/*.json.gz")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d recordings, %v", len(names), err)
	}
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := recording.Read(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// written is the page of recordings, and its elements.
func written(t *testing.T, all ...recording.Recording) (string, []*html.Node) {
	t.Helper()
	var b bytes.Buffer
	if err := Scenarios(&b, []report.Run{{Recordings: all}}); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var elements []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			elements = append(elements, n)
		}
	}
	return b.String(), elements
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func number0(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryAnchorIsThereOnce(t *testing.T) {
	_, elements := written(t, recordings(t)...)
	there := map[string]int{}
	for _, n := range elements {
		if id := attribute(n, "id"); id != "" {
			there[id]++
		}
	}
	links := 0
	for _, n := range elements {
		href := attribute(n, "href")
		if n.Data != "a" || href == "" {
			continue
		}
		links++
		if id, is := strings.CutPrefix(href, "#"); !is || there[id] != 1 {
			t.Errorf("a link to %q, which is there %d times", href, there[id])
		}
	}
	for id, n := range there {
		if n != 1 {
			t.Errorf("%q is there %d times", id, n)
		}
	}
	if links < 100 {
		t.Errorf("only %d links", links)
	}
}

func TestAnArrowForEachPacket(t *testing.T) {
	for _, r := range recordings(t) {
		_, elements := written(t, r)
		arrows, folded, lives := 0, 0, -1
		for _, n := range elements {
			switch {
			case n.Data == "article":
				lives = number0(t, attribute(n, "data-lives"))
			case n.Data == "a" && strings.HasPrefix(attribute(n, "class"), "arrow"):
				arrows++
			case attribute(n, "data-folded") != "":
				folded += number0(t, attribute(n, "data-folded"))
			}
		}
		if arrows+folded != lives || lives != len(livesOf(&r)) {
			t.Errorf("%s: %d arrows and %d folded, %d packets on the page, %d in the recording", r.Scenario, arrows, folded, lives, len(livesOf(&r)))
		}
	}
}

// hostile is what no recording should have, and any may.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)></style>` + "\x1b[31m\u202e</pre>`<b>`"

// spoil puts something hostile into every text of a value, behind what is there.
func spoil(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.String:
		v.SetString(v.String() + hostile)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			spoil(v.Index(i))
		}
	case v.Kind() == reflect.Map:
		spoilt := reflect.MakeMap(v.Type())
		for _, key := range v.MapKeys() {
			name, value := reflect.New(key.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
			name.Set(key)
			value.Set(v.MapIndex(key))
			spoil(name)
			spoil(value)
			spoilt.SetMapIndex(name, value)
		}
		if v.Len() > 0 {
			v.Set(spoilt)
		}
	case v.Kind() == reflect.Struct && v.NumField() > 0 && v.Field(0).CanSet():
		for i := range v.NumField() {
			spoil(v.Field(i))
		}
	}
}

func TestNothingInARecordingIsMarkup(t *testing.T) {
	for _, r := range recordings(t) {
		kept := r.File.Text
		spoil(reflect.ValueOf(&r).Elem())
		// Once as a file that cannot be read, and once as one that can.
		for _, text := range []string{r.File.Text, strings.ReplaceAll(kept, "name: ", "name: "+`</script><img src=x onerror=alert(3)>`)} {
			r.File.Text = text
			page, elements := written(t, r)
			count := map[string]int{}
			for _, n := range elements {
				count[n.Data]++
				for _, a := range n.Attr {
					if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "javascript:") {
						t.Errorf("%s: <%s %s=%q>", r.Scenario, n.Data, a.Key, a.Val)
					}
				}
			}
			if count["script"] != 1 || count["img"] != 0 || count["style"] != 1 || count["b"] != 0 {
				t.Errorf("%s: elements %v", r.Scenario, count)
			}
			if strings.ContainsAny(page, "\x1b\u202e") {
				t.Errorf("%s: there are control characters", r.Scenario)
			}
			if !strings.Contains(page, "alert(1)") {
				t.Errorf("%s: what was hostile is not shown at all", r.Scenario)
			}
		}
	}
}

func TestThePolicyAllowsWhatIsThere(t *testing.T) {
	page, elements := written(t, recordings(t)[0])
	policy := ""
	for _, n := range elements {
		if attribute(n, "http-equiv") == "Content-Security-Policy" {
			policy = attribute(n, "content")
		}
		if attribute(n, "style") != "" {
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
	if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(page, "http://") && strings.Contains(page, `src="http`) {
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

func TestAPageIsMadeTheSameEachTime(t *testing.T) {
	r := recordings(t)
	first, _ := written(t, r...)
	for range 3 {
		if again, _ := written(t, r...); again != first {
			t.Fatal("two pages of one recording differ")
		}
	}
}
