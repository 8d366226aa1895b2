package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pages "twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/sandbox"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/harness/topo"
)

// file reads a scenario of a client that connects to a port where nobody listens.
func file(t *testing.T, name, expected string) scriptfile.File {
	t.Helper()
	f, err := scriptfile.Read(filepath.Join("somewhere", name+".yaml"), []byte(`twlab: 1
name: `+name+`
topology: {nodes: {client1: {}, web: {}}, links: [client1 -- web]}
steps:
  - sleep: 1ms
  - connect: {from: client1, to: web:80}
    expect: {outcome: `+expected+`}
`))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// status is the exit status of an error.
func status(err error) int {
	var s cli.StatusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &s):
		return s.Status
	default:
		return cli.NotRun
	}
}

// boxed skips a test where labs cannot be built, or would be the machine's.
func boxed(t *testing.T) {
	t.Helper()
	if os.Getenv(sandbox.Variable) == "" {
		t.Skip("builds labs: run it with hack/test")
	}
}

func TestResultsAreInTheOrderOfTheFiles(t *testing.T) {
	boxed(t)
	dir := filepath.Join(t.TempDir(), "results")
	o := options{output: dir}
	var out, told bytes.Buffer
	files := []scriptfile.File{file(t, "second", "Refused"), file(t, "first", "Connected"), file(t, "second", "Refused")}
	if err := o.here(t.Context(), files, &out, &told); status(err) != 1 {
		t.Fatalf("%v, want status 1\n%s", err, out.String())
	}
	page := filepath.Join(dir, "report.html")
	if !strings.HasSuffix(out.String(), "\n\nas expected        second\nNOT as expected    first\nas expected        second\n\npage: "+page+"\n") {
		t.Errorf("table and page are not the last:\n%s", out.String())
	}
	if want := "first: step 2 of 2: connect client1 > web:80\n"; !strings.Contains(told.String(), want) {
		t.Errorf("progress without %q:\n%s", want, told.String())
	}
	var again strings.Builder
	for _, name := range []string{"second", "first", "second-2"} {
		f, err := os.Open(filepath.Join(dir, name, "run.json"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := recording.Read(f)
		if err := errors.Join(err, f.Close(), report.Text(&again, r)); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.By, "twlab ") || r.File.Name != r.Scenario+".yaml" {
			t.Errorf("by %q, of the file %q", r.By, r.File.Name)
		}
		for _, packets := range []string{"packets.pcapng", "taps/01-client1-web.pcapng", "taps/02-web-client1.pcapng"} {
			if info, err := os.Stat(filepath.Join(dir, name, packets)); err != nil || info.Size() < 500 {
				t.Errorf("%s: %v, %+v", packets, err, info)
			}
		}
	}
	if printed, _, _ := strings.Cut(out.String(), "\n\n"); printed+"\n" != again.String() {
		t.Errorf("read again:\n%s\nprinted:\n%s", again.String(), printed)
	}
	for _, name := range []string{junitFile, summaryFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Count(string(text), "second") < 2 || !strings.Contains(string(text), "first") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if err := o.here(t.Context(), files, &out, &told); status(err) != cli.NotRun || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a second run into the same directory: %v", err)
	}
}

func TestAnInterruptedRunKeepsWhatItHas(t *testing.T) {
	boxed(t)
	dir := t.TempDir()
	o := options{output: dir}
	ctx, stop := context.WithCancel(t.Context())
	told := writer(func(text []byte) {
		if bytes.Contains(text, []byte("second: step 2")) {
			stop()
		}
	})
	files := []scriptfile.File{file(t, "first", "Refused"), file(t, "second", "Refused"), file(t, "third", "Refused")}
	err := o.here(ctx, files, io.Discard, told)
	if status(err) != 130 || !strings.Contains(err.Error(), "1 of 3 scenarios were not run") {
		t.Errorf("%v, want status 130", err)
	}
	summary, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil || !strings.Contains(string(summary), "| second | interrupted |") || !strings.Contains(string(summary), "1 of 3") {
		t.Errorf("%v: the summary is\n%s", err, summary)
	}
	f, err := os.Open(filepath.Join(dir, "second", "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := recording.Read(f)
	if err := errors.Join(err, f.Close()); err != nil || r.Verdict() != recording.Interrupted {
		t.Errorf("%v: %v, want that it was interrupted", err, r.Verdict())
	}
}

// writer is a function that gets what is written.
type writer func([]byte)

func (w writer) Write(text []byte) (int, error) {
	w(text)
	return len(text), nil
}

func TestRecordingsForAnotherProcess(t *testing.T) {
	boxed(t)
	dir := t.TempDir()
	o := options{recordTo: dir}
	if err := o.record(t.Context(), []scriptfile.File{file(t, "b", "Refused"), file(t, "a", "Connected")}, io.Discard); err != nil {
		t.Fatal(err)
	}
	all, err := readRecordings(dir)
	if err != nil || len(all) != 2 || all[0].Scenario != "b" || all[1].Verdict() != recording.NotAsExpected {
		t.Errorf("%v: %d recordings: %+v", err, len(all), all)
	}
	if err := os.WriteFile(filepath.Join(dir, numbered(2)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecordings(dir); !errors.Is(err, recording.ErrTruncated) {
		t.Errorf("%v, want %v", err, recording.ErrTruncated)
	}
}

func TestOneRunInADirectoryAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "results")
	first, err := openOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openOutput(dir); status(err) != cli.NotRun || !strings.Contains(err.Error(), "another run is using") {
		t.Errorf("a second one at the same time: %v", err)
	}
	for _, kernel := range []string{"", "debian-6.1", ""} {
		if err := first.add(kernel, recording.Recording{Scenario: "../x", File: recording.File{Text: "y"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(first.add("", recording.Recording{Scenario: ".."}), first.finish(nil, io.Discard, io.Discard), first.Close()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range found {
		found[i] = filepath.Base(f)
	}
	if got := strings.Join(found, " "); got != "-x -x-2 debian-6.1 junit.xml report.html scenario summary.md" {
		t.Errorf("the directory has %s", got)
	}
	if _, err := openOutput(dir); status(err) != cli.NotRun || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a second one afterwards: %v", err)
	}
	if _, err := openOutput("/proc/twlab"); status(err) != cli.NotRun || !strings.Contains(err.Error(), "give another one") {
		t.Errorf("a directory that cannot be: %v", err)
	}
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]string{
		"a b/c [ip=4]": "a-b-c--ip=4-", "..": "", "../../etc": "-..-etc", ".hidden": "hidden", strings.Repeat("x", 300): strings.Repeat("x", 120), "ü\x1b": "--",
	} {
		if got := fileName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestAFileThatCannotBeWrittenIsNotHalfThere(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("the disk is full")
	if err := pages.Write(filepath.Join(dir, "x"), func(to io.Writer) error {
		_, err := io.WriteString(to, "half")
		return errors.Join(err, broken)
	}); !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v: left %v", err, left)
	}
}

func TestRolesAreNodes(t *testing.T) {
	s := script.Scenario{Network: topo.Network{Nodes: []topo.Node{
		{Identity: topo.Identity{Name: "client0", Role: topo.Client}}, {Identity: topo.Identity{Name: "client12"}},
		{Identity: topo.Identity{Name: "vip", Role: topo.Balancer}}, {Identity: topo.Identity{Name: "clients-friend"}},
	}}}
	for role, want := range map[string]int{"client": 2, "balancer": 1, "vip": 1, "client0": 1, "gateway": 0} {
		a := assignment{{role: role}}
		if got := len(a.kinds(s)); got != want {
			t.Errorf("%s: %d nodes, want %d", role, got, want)
		}
		if err := a.fit([]task{{scenario: s}}); (err == nil) != (want > 0) {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestProgressOfAnotherProcess(t *testing.T) {
	var out bytes.Buffer
	p := cli.NewProgress(&out, 0)
	l := lines{line: p, before: "debian-6.1: "}
	for _, piece := range []string{"one\ntw", "o\nthr", "ee"} {
		if _, err := io.WriteString(&l, piece); err != nil {
			t.Fatal(err)
		}
	}
	if p.Close(); out.String() != "debian-6.1: one\ndebian-6.1: two\n" {
		t.Errorf("%q", out.String())
	}
}

func TestKeptUntilEnter(t *testing.T) {
	r, w := io.Pipe()
	over := make(chan error, 1)
	go func() { over <- entered(t.Context(), r) }()
	select {
	case err := <-over:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := entered(ctx, strings.NewReader("")); err != nil {
		t.Error(err)
	}
}

// While a network is kept, what is printed leads into its nodes; then it is gone.
func TestAKeptNetworkHasAWayIn(t *testing.T) {
	boxed(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute) // where nothing is found, it would be kept
	defer stop()
	way := regexp.MustCompile(`(?m)^  (client1|web) +nsenter .*--net=/proc/(\d+/root/proc/)?(\d+)/fd/(\d+) bash$`)
	var found []string
	var printed strings.Builder
	out := writer(func(text []byte) {
		printed.Write(text)
		for _, m := range way.FindAllStringSubmatch(string(text), -1) {
			space, err := os.Readlink("/proc/" + m[3] + "/fd/" + m[4])
			if err != nil {
				t.Error(err)
			}
			found = append(found, m[1]+" "+space)
		}
		if len(found) == 2 {
			stop()
		}
	})
	o := options{keep: keepFailed}
	err := o.here(ctx, []scriptfile.File{file(t, "good", "Refused"), file(t, "bad", "Connected")}, out, io.Discard)
	if status(err) != 1 || len(found) != 2 || !strings.HasPrefix(found[0], "client1 net:[") || !strings.HasPrefix(found[1], "web net:[") || found[0][8:] == found[1][4:] {
		t.Errorf("%v: ways into %v\n%s", err, found, printed.String())
	}
	if strings.Count(printed.String(), "kept until Enter") != 1 || strings.Count(printed.String(), "  2 connect") != 2 {
		t.Errorf("what is as expected was kept, or something is told twice:\n%s", printed.String())
	}
	left, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range left {
		space, err := os.Readlink(fd)
		if err == nil && slices.ContainsFunc(found, func(f string) bool { return strings.HasSuffix(f, " "+space) }) {
			t.Errorf("%s is still held", space)
		}
	}
}

func TestSlips(t *testing.T) {
	for line, want := range map[string]string{
		"":                              "which file?",
		"--keep=never x":                "--keep=never: want --keep or --keep=always",
		"--keep --kernels running x":    "--keep is for the running kernel",
		"--keep --kernel all=k x":       "--keep is for the running kernel",
		"--kernel client x":             "want ROLE=KERNEL",
		"--kernel all=k --kernel a=b x": "goes with no other --kernel",
		"--kernel a=b --kernels k x":    "do not go together",
		"--kernels running,running x":   "'running' is given twice",
		"--kernels running,,k x":        "wants names with a comma in between",
		"--output-dir= x":               "--output-dir wants a directory",
		"--schema x":                    "either files or --schema",
	} {
		c := Command()
		c.SetArgs(strings.Fields(line))
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.Execute()
		var slip cli.UsageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestSchemaIsPrinted(t *testing.T) {
	var out bytes.Buffer
	c := Command()
	c.SetArgs([]string{"--schema"})
	c.SetOut(&out)
	if err := c.Execute(); err != nil || !strings.HasPrefix(out.String(), "{\n") || !strings.Contains(out.String(), "json-schema.org") {
		t.Errorf("%v: %s", err, out.String())
	}
}
