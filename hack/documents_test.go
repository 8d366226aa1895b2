package hack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// document is a page that people read, and its text.
type document struct{ path, text string }

// documents reads all pages of the tree.
func documents(t *testing.T) (all []document) {
	t.Helper()
	for _, pattern := range []string{"../*.md", "*.md", "../harness/*.md", "../scenarios/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path) //nolint:gosec // ours
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, document{path, string(text)})
		}
	}
	const least = 12
	if len(all) < least {
		t.Fatalf("only %d documents", len(all))
	}
	return all
}

var (
	// inABlock is a command in a code block, and inCode one within a sentence.
	inABlock = regexp.MustCompile(`^(?:    |\s*- (?:run: )?)((?:sudo |twlab/hack/|hack/|vagrant |git clone |sysctl ).*)$`)
	inCode   = regexp.MustCompile("`((?:sudo |hack/|go |vagrant |sysctl -a )[^`]+)`")
	// comment is what stands behind a command.
	comment = regexp.MustCompile(`\s+#.*$`)
	// asRoot is what a command begins with that is run as another user, or in another directory.
	asRoot = regexp.MustCompile(`^(sudo (env "PATH=\$PATH" )?)?(twlab/)?`)
)

// commandsIn finds the commands of a page, without what does not matter to them.
func commandsIn(text string) (all []string) {
	var found []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if match := inABlock.FindStringSubmatch(line); match != nil {
			found = append(found, match[1])
			continue
		}
		for _, match := range inCode.FindAllStringSubmatch(line, -1) {
			found = append(found, match[1])
		}
	}
	for _, whole := range found {
		for _, part := range oneByOne(comment.ReplaceAllString(whole, "")) {
			part = asRoot.ReplaceAllString(strings.TrimSpace(part), "")
			name, _, hasWords := strings.Cut(part, " ")
			if info, err := os.Stat(filepath.Join("..", name)); strings.HasPrefix(name, "hack/") && (err != nil || info.IsDir() || info.Mode()&0o111 == 0 || !hasWords) {
				continue // a file of the tree, or the name of a program alone
			}
			all = append(all, part)
		}
	}
	return all
}

// oneByOne splits a line of a shell at &&, where that is not within quotes.
func oneByOne(line string) (all []string) {
	begin := 0
	var quote rune
	for i, r := range line {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case r == quote:
			quote = 0
		case quote == 0 && strings.HasPrefix(line[i:], " && "):
			all = append(all, line[begin:i])
			begin = i + len(" && ")
		}
	}
	return append(all, line[begin:])
}

// A trial is how a command that begins so is tried.
type trial struct {
	begins string
	try    func(*testing.T, desk, string)
}

// trials are looked through from the first to the last.
func trials() []trial {
	return []trial{
		{"hack/twlab run ", runsFiles},
		{"hack/twlab explain", whole(0)},
		{"hack/twlab diagnose", readsCaptures},
		{"hack/twlab show ", whole(0)},
		{"hack/twlab lint", whole(0, 1)},
		{"hack/twlab check", whole(0)},
		{"hack/twlab new", whole(0)},
		{"hack/twlab doctor", whole(0, 1)},
		{"hack/twlab kernels list", whole(0)},
		{"hack/twlab kernels path", whole(0, 1)},
		{"hack/twlab load --clients 1 --each 100 --profile gcp --close never --timeout 5s", whole(0)},
		{"hack/twlab completion", whole(0)},
		{"sysctl -a | hack/twlab lint", whole(0, 1)},
		{"hack/e2e", selectsSpecs},
		{"hack/twlab matrix", selectsSpecs},
		{"hack/twlab soak", soaks},
		{"hack/twlab sandbox go test", namesPackages},
		{"go test ./", namesPackages},
		{"hack/bootstrap", looksOnly},
		// Every other one of ours has its flags parsed: it is slow, fetches, or builds.
		{"hack/twlab", parses},
		{"hack/test", parses},
		{"hack/build", parses},
		{"hack/bench", parses},
		// Not ours: what they are given is there.
		{"vagrant", needs("../Vagrantfile")},
		{"sysctl kernel.apparmor_restrict_unprivileged_userns=0", needs("../harness/sandbox/refusal.go")},
		{"go tool ginkgo", needs("../e2e")},
		{"go doc ./", namesPackages},
		{"git clone", needs("bootstrap")},
		{"go -C hack/browser test", needs("browser/go.mod")},
		{"chmod -R a+rX results", needs("../README.md")},
	}
}

// Each command of a document works: it runs whole where that takes seconds, and else as far as
// its flags, filters and files go. One that nothing tries is an error.
func TestCommandsOfDocuments(t *testing.T) {
	t.Parallel()
	tryAll(t, commandsOfDocuments(t))
}

// commandsOfDocuments are the commands of all pages, and the pages of each.
func commandsOfDocuments(t *testing.T) map[string][]string {
	t.Helper()
	commands := map[string][]string{}
	for _, d := range documents(t) {
		for _, c := range commandsIn(d.text) {
			if !slices.Contains(commands[c], d.path) {
				commands[c] = append(commands[c], d.path)
			}
		}
	}
	return commands
}

// Each example of --help works the same way, when it is pasted. Those that a document has as well
// are tried there.
func TestExamplesOfHelp(t *testing.T) {
	t.Parallel()
	d, inDocuments := newDesk(t), commandsOfDocuments(t)
	commands, helped := map[string][]string{}, 0
	for _, c := range append(d.subcommands(t), "twlab", "e2e") {
		text := d.output(t, "hack/"+c+" --help")
		examples := examplesIn(text)
		if len(examples) == 0 {
			t.Errorf("hack/%s --help has no example", c)
		}
		if !regexp.MustCompile(`(?i)exit status`).MatchString(text) && c != "twlab" {
			t.Errorf("hack/%s --help says nothing of the exit status", c)
		}
		for _, e := range examples {
			helped++
			if inDocuments[e] == nil {
				commands[e] = append(commands[e], c+" --help")
			}
		}
	}
	const least = 40
	if helped < least {
		t.Fatalf("only %d examples", helped)
	}
	tryAll(t, commands)
}

// tryAll tries each command at a desk of its own.
func tryAll(t *testing.T, commands map[string][]string) {
	t.Helper()
	for c, in := range commands {
		t.Run(c, func(t *testing.T) {
			t.Parallel()
			for _, way := range trials() {
				if strings.HasPrefix(c, way.begins) {
					way.try(t, newDesk(t), c)
					return
				}
			}
			t.Errorf("%s: nothing in trials tries this", strings.Join(in, ", "))
		})
	}
}

// Each way of trying has a command: else it would be tried no more, and nobody would know.
func TestEachTrialIsUsed(t *testing.T) {
	var all []string
	for _, d := range documents(t) {
		all = append(all, commandsIn(d.text)...)
	}
	for _, way := range trials() {
		if !slices.ContainsFunc(all, func(c string) bool { return strings.HasPrefix(c, way.begins) }) && !strings.HasPrefix(way.begins, "hack/twlab ") {
			t.Errorf("no document has a command that begins with %q", way.begins)
		}
	}
}

// exampleLine is an example in a help text.
var exampleLine = regexp.MustCompile(`^  ((?:sysctl -a \| )?(?:twlab|hack/e2e|hack/build) .*|hack/build)$`)

func examplesIn(text string) (all []string) {
	for line := range strings.Lines(text) {
		match := exampleLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if match == nil || strings.Contains(match[1], " [") {
			continue // a usage, and no example
		}
		e, _, _ := strings.Cut(match[1], "    ") // what it is for stands behind it
		for _, part := range oneByOne(e) {
			const piped = "sysctl -a | "
			rest, is := strings.CutPrefix(part, piped)
			if words, ours := strings.CutPrefix(rest, "twlab "); ours {
				rest = "hack/twlab " + words
			}
			if is {
				rest = piped + rest
			}
			if strings.Contains(rest, "hack/twlab ") || strings.HasPrefix(rest, "hack/") {
				all = append(all, rest)
			}
		}
	}
	return all
}

// subcommands lists what twlab has, with the second words of groups.
func (d desk) subcommands(t *testing.T) (all []string) {
	t.Helper()
	list := func(of string) (names []string) {
		_, after, _ := strings.Cut(d.output(t, "hack/"+of+" --help"), "Available Commands:\n")
		block, _, _ := strings.Cut(after, "\n\n")
		for line := range strings.Lines(block) {
			if name := strings.Fields(line)[0]; name != "help" && name != "completion" {
				names = append(names, of+" "+name)
			}
		}
		return names
	}
	for _, name := range list("twlab") {
		all = append(all, name)
		all = append(all, list(name)...)
	}
	const least = 15
	if len(all) < least {
		t.Fatalf("only %q", all)
	}
	return all
}

// output is what a command prints, which must not fail.
func (d desk) output(t *testing.T, line string) string {
	t.Helper()
	text, status := d.run(t, line)
	if status != 0 {
		t.Fatalf("%s: exit status %d\n%s", line, status, text)
	}
	return text
}

// run runs a line of a shell at the desk.
func (d desk) run(t *testing.T, line string) (text string, status int) {
	t.Helper()
	said, err := d.shell(line)
	if err != nil {
		t.Fatal(err)
	}
	return said.text, said.status
}

// said is what a command has printed, and its exit status.
type said struct {
	stdout string
	text   string // with standard error behind it
	status int
}

// commandsRun are the lines that once has run, or runs.
var commandsRun struct {
	sync.Mutex
	said map[string]func() (said, error)
}

// once runs lines, one after the other, that several tests judge, and is what the last one says.
// That does not depend on the desk, which has all that they need.
func (d desk) once(t *testing.T, lines ...string) said {
	t.Helper()
	all := strings.Join(lines, "\n")
	commandsRun.Lock()
	if commandsRun.said == nil {
		commandsRun.said = map[string]func() (said, error){}
	}
	run := commandsRun.said[all]
	if run == nil {
		run = sync.OnceValues(func() (said, error) { return d.shell(lines...) })
		commandsRun.said[all] = run
	}
	commandsRun.Unlock()
	result, err := run()
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// shell runs lines of a shell at the desk, each in a shell of its own, and is what the last one says.
func (d desk) shell(lines ...string) (last said, err error) {
	for _, line := range lines {
		var stdout, stderr strings.Builder
		c := exec.CommandContext(context.Background(), "bash", "-c", line)
		c.Dir, c.Stdout, c.Stderr = d.dir, &stdout, &stderr
		if err := c.Run(); c.ProcessState == nil {
			return said{}, fmt.Errorf("%s: %w", line, err)
		}
		last = said{stdout.String(), stdout.String() + stderr.String(), c.ProcessState.ExitCode()}
	}
	return last, nil
}
