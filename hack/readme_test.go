package hack

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"twlab/harness/scriptfile"
)

// The Go code in documents is code of the tree, or a program, which hack/test builds and runs.
func TestDocumentsShowCodeOfTheTree(t *testing.T) {
	var tree strings.Builder
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path) //nolint:gosec // ours
		tree.WriteString(unindented(string(source)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range documents(t) {
		for _, block := range strings.Split(d.text, "```go\n")[1:] {
			found++
			code, _, _ := strings.Cut(block, "```")
			if !strings.HasPrefix(code, "package main\n") && !strings.Contains(tree.String(), unindented(code)) {
				t.Errorf("%s: no test of the tree has this:\n%s", d.path, code)
			}
		}
	}
	const least = 4
	if found < least {
		t.Fatalf("only %d pieces of Go code", found)
	}
}

// unindented is a text without the white space at the beginning of its lines.
func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "\n")
}

// A scenario in a document is one that can be read.
func TestDocumentsShowScenarios(t *testing.T) {
	found := 0
	for _, d := range documents(t) {
		for _, block := range strings.Split(d.text, "```yaml\n")[1:] {
			text, _, _ := strings.Cut(block, "```")
			if !strings.Contains(text, "twlab: 1\n") {
				continue
			}
			found++
			if _, err := scriptfile.Read(d.path, []byte(text)); err != nil {
				t.Error(err)
			}
		}
	}
	const least = 2
	if found < least {
		t.Errorf("only %d scenarios", found)
	}
}

// shownOutput is a command, and what a document says that it prints.
var shownOutput = regexp.MustCompile("(?m)((?:^    hack/twlab [^\n]*\n)+)\n(?:[^`\n][^\n]*\n+)?```text\n((?s:.*?))```")

// dropped is the kernel's own word, which only root and newer kernels have. It may go on in the
// next line, which has no number.
const dropped = "  dropped: "

// What a document shows of an output is printed, in this order. Numbers may vary, and lines may
// have been left out.
func TestDocumentsShowWhatIsPrinted(t *testing.T) {
	t.Parallel()
	found := 0
	for _, page := range documents(t) {
		for _, shown := range shownOutput.FindAllStringSubmatch(page.text, -1) {
			found++
			lines := strings.Split(strings.TrimSpace(shown[1]), "\n")
			t.Run(page.path+" "+lines[0], func(t *testing.T) {
				t.Parallel()
				for i := range lines {
					lines[i] = strings.TrimSpace(comment.ReplaceAllString(lines[i], ""))
				}
				said := newDesk(t).once(t, lines...)
				if said.status == 125 || said.status == 4 {
					t.Skipf("exit status %d: needs a sandbox", said.status)
				}
				rest := strings.Split(withoutNumbers(said.stdout), "\n")
				skipped := false
				for wanted := range strings.Lines(shown[2]) {
					skipped = strings.Contains(wanted, dropped) || skipped && !amount.MatchString(wanted)
					if skipped {
						continue
					}
					i := slices.Index(rest, withoutNumbers(strings.TrimRight(wanted, "\n")))
					if i < 0 {
						t.Fatalf("it does not print, or not here:\n%s\nbut\n%s", wanted, said.stdout)
					}
					rest = rest[i+1:]
				}
			})
		}
	}
	const least = 5
	if found < least {
		t.Fatalf("only %d outputs", found)
	}
}

// amount is a number or a time, which differs from run to run; in it nothing of a name is.
var amount = regexp.MustCompile(`\b[0-9]+(\.[0-9]+)?(ms|µs|s)?\b`)

func withoutNumbers(text string) string {
	return regexp.MustCompile(`(?m) +`).ReplaceAllString(amount.ReplaceAllString(text, "0"), " ")
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchor   = regexp.MustCompile(`<a id="([^"]+)">`)
	notInIDs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchorsOf are those that a page offers, as GitHub makes them of headings.
func anchorsOf(text string) (all []string) {
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		id := notInIDs.ReplaceAllString(strings.ToLower(anchor.ReplaceAllString(match[1], "")), "")
		all = append(all, strings.ReplaceAll(id, " ", "-"))
	}
	for _, match := range anchor.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	return all
}

// Every link of a document leads to a file of the tree, and to a place in it.
func TestLinksOfDocuments(t *testing.T) {
	places := map[string][]string{}
	for _, d := range documents(t) {
		places[filepath.Clean(d.path)] = anchorsOf(d.text)
	}
	found := 0
	for _, d := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(d.text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			found++
			path, id, _ := strings.Cut(match[1], "#")
			to := filepath.Clean(d.path)
			if path != "" {
				to = filepath.Join(filepath.Dir(d.path), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link %s: %v", d.path, match[1], err)
			} else if known, is := places[to]; id != "" && is && !slices.Contains(known, id) {
				t.Errorf("%s: link %s: %s has no such place", d.path, match[1], to)
			}
		}
	}
	const least = 500
	if found < least {
		t.Fatalf("only %d links", found)
	}
}

// README is read in a minute.
func TestReadmeIsShort(t *testing.T) {
	const most = 200
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > most {
		t.Errorf("README has %d lines, want at most %d: what is longer has a page beside what it describes", n, most)
	}
}

// The Chinese README has no command and no link that README does not have, and the two that
// matter most.
func TestChineseReadmeSaysTheSame(t *testing.T) {
	texts := map[string]string{}
	for _, d := range documents(t) {
		texts[d.path] = d.text
	}
	english, chinese := texts["../README.md"], texts["../README.zh-CN.md"]
	for _, c := range commandsIn(chinese) {
		if !slices.Contains(commandsIn(english), c) {
			t.Errorf("README has no command %q", c)
		}
	}
	for _, c := range commandsIn(english)[:2] { // the example
		if !slices.Contains(commandsIn(chinese), c) {
			t.Errorf("README.zh-CN.md does not have the command %q", c)
		}
	}
	for _, match := range link.FindAllStringSubmatch(chinese, -1) {
		path, _, _ := strings.Cut(match[1], "#")
		if !strings.Contains(english, "]("+match[1]+")") && path != "scenarios/CLAIMS.md" && path != "README.md" {
			t.Errorf("README has no link %s", match[1])
		}
	}
	for _, block := range strings.Split(chinese, "```")[1:] {
		text, isText := strings.CutPrefix(block, "text\n")
		if isText && !strings.Contains(english, text) {
			t.Errorf("README does not show this output:\n%s", text)
		}
	}
}
