package hack

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/onsi/ginkgo/v2/types"

	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// desk is a directory as somebody has it who follows the documents: the tree, and the files that
// they show.
type desk struct{ dir string }

// shared is a directory for what all desks have, until the last test is over.
var shared string

// Commands wait for timers of the kernel most of the time, each at a desk and in namespaces of its
// own, so that four of them do not disturb each other.
func TestMain(m *testing.M) {
	err := flag.Set("test.parallel", "4")
	if err == nil {
		shared, err = os.MkdirTemp("", "twlab-documents-")
	}
	if err != nil {
		panic(err)
	}
	status := m.Run()
	if err := os.RemoveAll(shared); err != nil {
		panic(err)
	}
	os.Exit(status)
}

// program is what hack/twlab becomes: asked once for all desks, since Go looks at the whole tree
// each time.
var program = sync.OnceValues(func() (string, error) {
	c := exec.Command("go", "tool", "-n", "twlab")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	var stderr strings.Builder
	c.Stderr = &stderr
	path, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("build twlab: %w\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(path)), nil
})

// programAndTree are the paths of the program, and of the tree that it works for when TWLAB_TREE has it.
func programAndTree(t *testing.T) (twlab, tree string) {
	t.Helper()
	twlab, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = filepath.Abs(".."); err != nil {
		t.Fatal(err)
	}
	return twlab, tree
}

// recorded is what a run of one scenario leaves, which is made once: desks only read it.
var recorded = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared, "recorded")
	c := exec.Command("./twlab", "run", "--output-dir", dir, "../scenarios/causes/time-wait-rfc1337.yaml") //nolint:gosec // ours
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("record a run: %w\n%s", err, out)
	}
	return dir, nil
})

// recorded puts that at the desk under a name.
func (d desk) recorded(t *testing.T, name string) {
	t.Helper()
	dir, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}

// named is a file that a document shows: its first line says how it is called.
var named = regexp.MustCompile("(?s)```yaml\n(# ([a-z0-9-]+\\.yaml)\n.*?)```")

func newDesk(t *testing.T) desk {
	t.Helper()
	d := desk{t.TempDir()}
	twlab, tree := programAndTree(t)
	shim := fmt.Sprintf("#!/bin/sh\nTWLAB_TREE='%s' exec '%s' ", tree, twlab)
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(d.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a test's directory
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("hack/twlab", shim+"\"$@\"\n", 0o755)
	write("hack/e2e", shim+"e2e \"$@\"\n", 0o755)
	for _, name := range []string{"hack/bootstrap", "hack/test", "hack/build", "hack/bench"} {
		write(name, fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", filepath.Join(tree, name)), 0o755)
	}
	if err := os.Symlink(filepath.Join(tree, "scenarios"), filepath.Join(d.dir, "scenarios")); err != nil {
		t.Fatal(err)
	}
	for _, page := range documents(t) {
		for _, shown := range named.FindAllStringSubmatch(page.text, -1) {
			write(shown[2], shown[1], 0o600)
			write("net/"+shown[2], shown[1], 0o600)
		}
	}
	const conf = "net.ipv4.tcp_fin_timeout = 15\n"
	for _, name := range []string{"99-tuning.conf", "sysctl.conf"} {
		write(name, conf, 0o600)
	}
	return d
}

// placeholder is a word that stands for something else.
var placeholder = regexp.MustCompile(`\b[A-Z]{3,}\b|\.\.\.`)

// whole runs a command as it stands, which ends with one of the statuses.
func whole(statuses ...int) func(*testing.T, desk, string) {
	return func(t *testing.T, d desk, line string) {
		t.Helper()
		if placeholder.MatchString(line) {
			parses(t, d, line)
			return
		}
		if strings.Contains(line, " results/*/run.json") { // which a run before it leaves
			d.recorded(t, "results")
		}
		if strings.Contains(line, "mine.yaml") && !strings.Contains(line, " new ") {
			d.output(t, "hack/twlab new mine.yaml")
		}
		// Newer systems have no such file, and the desk has one.
		said := d.once(t, strings.ReplaceAll(line, "/etc/sysctl.conf", "sysctl.conf"))
		if said.status == 125 {
			t.Skip(said.text)
		}
		if !slices.Contains(statuses, said.status) {
			t.Errorf("exit status %d, want one of %d\n%s", said.status, statuses, said.text)
		}
	}
}

// number is how often a soak runs; what stands behind it is for the suite.
var number = regexp.MustCompile(` ([0-9]+)( .*)?$`)

// captures makes at the desk what somebody else has: two captures of one machine each, and what
// nstat printed before and after.
func (d desk) captures(t *testing.T) {
	t.Helper()
	d.recorded(t, "captured")
	d.output(t, `cp captured/*/taps/*-client-server.pcapng a.pcap
cp captured/*/taps/*-server-client.pcapng b.pcapng
cp b.pcapng b.pcap
printf '#kernel\nTcpExtPAWSTimewait 0 0.0\n' >before.txt
printf '#kernel\nTcpExtPAWSTimewait 4 0.0\n' >after.txt`)
}

// readsCaptures runs a command that reads captures; several causes may fit.
func readsCaptures(t *testing.T, d desk, line string) {
	t.Helper()
	if !placeholder.MatchString(line) {
		d.captures(t)
	}
	whole(0, 1)(t, d, line)
}

// soaks has the flags of a soak read, and those of the suite behind its number.
func soaks(t *testing.T, d desk, line string) {
	t.Helper()
	i := number.FindStringSubmatchIndex(line)
	if i == nil {
		t.Fatal("how often?")
	}
	parses(t, d, line[:i[0]])
	if rest := line[i[3]:]; rest != "" {
		selectsSpecs(t, d, "hack/e2e"+rest)
	}
}

// parses has the flags of a command read, and nothing done.
func parses(t *testing.T, d desk, line string) {
	t.Helper()
	before, after, found := strings.Cut(line, " -- ")
	asked := before + " --help"
	if found {
		asked += " -- " + after
	}
	if text, status := d.run(t, strings.ReplaceAll(asked, "[=auto]", "=auto")); status != 0 {
		t.Errorf("%s: exit status %d\n%s", asked, status, text)
	}
}

// runsFiles runs a file of the desk, and one of the tree that a document names alone: the suite
// runs the others. What needs another kernel or a keyboard has its flags read and its files checked.
func runsFiles(t *testing.T, d desk, line string) {
	t.Helper()
	words := strings.Fields(line)[2:]
	var files []string
	for _, w := range words {
		if strings.HasSuffix(w, ".yaml") || strings.HasPrefix(w, "scenarios/") {
			files = append(files, w)
		}
	}
	if placeholder.MatchString(line) || len(files) != len(words) {
		parses(t, d, line)
		if slices.Contains(files, "mine.yaml") {
			d.output(t, "hack/twlab new mine.yaml")
		}
		if len(files) > 0 && !placeholder.MatchString(strings.Join(files, " ")) {
			d.output(t, "hack/twlab check "+strings.Join(files, " "))
		}
		return
	}
	d.make(t, files[0])
	if strings.HasPrefix(files[0], "scenarios/") {
		whole(0)(t, d, line)
		return
	}
	if files[0] == "again.yaml" { // which twlab diagnose writes
		d.captures(t)
		d.run(t, "hack/twlab diagnose --at client=a.pcap --at server=b.pcap --reproduce again.yaml")
	}
	whole(0, 1)(t, d, line) // reuse.yaml expects what is not
}

// make makes a file that is not at the desk by the command of a document whose output it is.
func (d desk) make(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(d.dir, file)); err == nil {
		return
	}
	for _, page := range documents(t) {
		for _, c := range commandsIn(page.text) {
			if strings.HasSuffix(c, " > "+file) {
				d.output(t, c)
				return
			}
		}
	}
}

// filter is a label filter in a command, focus a filter by words.
var (
	filter = regexp.MustCompile(`--label-filter[= ](?:'([^']*)'|(\S+))`)
	focus  = regexp.MustCompile(`--focus[= ](?:'([^']*)'|(\S+))`)
)

// selectsSpecs has the flags of a run of the suite read, and looks whether its filters select
// something.
func selectsSpecs(t *testing.T, d desk, line string) {
	t.Helper()
	parses(t, d, line)
	if placeholder.MatchString(strings.Join(filter.FindStringSubmatch(line), " ")) {
		return
	}
	if match := focus.FindStringSubmatch(line); match != nil {
		pattern := regexp.MustCompile(match[1] + match[2])
		if !slices.ContainsFunc(specs(t, d), func(s spec) bool { return pattern.MatchString(s.text) }) {
			t.Errorf("no spec has %s in its name", pattern)
		}
	}
	match := filter.FindStringSubmatch(line)
	if match == nil {
		return
	}
	selects, err := types.ParseLabelFilter(match[1] + match[2])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(specs(t, d), func(s spec) bool { return selects(s.labels) }) {
		t.Errorf("no spec passes %q", match[1]+match[2])
	}
}

// spec is what a dry run says of one.
type spec struct {
	text   string
	labels []string
}

var dryRun struct {
	sync.Once
	specs []spec
	err   error
}

// specs are all specs, and all chosen cells, those that only virtual time tries among them.
func specs(t *testing.T, d desk) []spec {
	t.Helper()
	dryRun.Do(func() {
		const results = "dry-run"
		if text, status := d.run(t, "hack/e2e --dry-run --output-dir "+results); status != 0 {
			dryRun.err = fmt.Errorf("exit status %d\n%s", status, text)
			return
		}
		text, err := os.ReadFile(filepath.Join(d.dir, results, "report.json")) //nolint:gosec // ours
		if err != nil {
			dryRun.err = err
			return
		}
		var reports []types.Report
		if dryRun.err = json.Unmarshal(text, &reports); dryRun.err != nil {
			return
		}
		for _, s := range reports[0].SpecReports {
			dryRun.specs = append(dryRun.specs, spec{s.FullText(), s.Labels()})
		}
		for _, f := range scenarios.Families() {
			for _, c := range f.Chosen(claim.Newest()) {
				r, _ := f.Rule(c, claim.Newest())
				labels := append(f.Labels(c, r), "cell", "full")
				if f.NeedsVirtualTime(c) {
					labels = append(labels, "virtual-time")
				}
				dryRun.specs = append(dryRun.specs, spec{labels: labels})
			}
		}
	})
	if dryRun.err != nil {
		t.Fatal(dryRun.err)
	}
	return dryRun.specs
}

// goPackage is a package of this module in a command.
var goPackage = regexp.MustCompile(`\./[A-Za-z0-9/]+`)

// namesPackages looks whether the packages of a go command are there.
func namesPackages(t *testing.T, _ desk, line string) {
	t.Helper()
	for _, name := range goPackage.FindAllString(line, -1) {
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Error(err)
		}
	}
}

// looksOnly has hack/bootstrap look, and install nothing.
func looksOnly(t *testing.T, d desk, line string) {
	t.Helper()
	if text, status := d.run(t, line+" --check"); status != 0 && status != 1 {
		t.Errorf("exit status %d\n%s", status, text)
	}
}

// needs looks whether what a program of somebody else is given is there.
func needs(path string) func(*testing.T, desk, string) {
	return func(t *testing.T, _ desk, _ string) {
		t.Helper()
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
