package run

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	pages "twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
	"twlab/harness/page"
	"twlab/harness/pcapng"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// The files about all scenarios, and those of the packets of one.
const (
	junitFile   = "junit.xml"
	summaryFile = "summary.md"
	pageFile    = "report.html"

	packetsFile = "packets.pcapng"
	tapsDir     = "taps"
)

// output is a directory of results, which one run has for itself, once. The zero value keeps
// nothing.
type output struct {
	dir  string
	lock *os.File        // the directory itself
	used map[string]bool // names below it
}

// openOutput takes a directory for this run. It refuses one in which something is: nothing is
// overwritten.
func openOutput(dir string) (*output, error) {
	o := &output{dir: dir, used: map[string]bool{junitFile: true, summaryFile: true, pageFile: true}}
	if dir == "" {
		return o, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return o, cannotWrite(err)
	}
	var err error
	if o.lock, err = os.Open(dir); err != nil {
		return o, cannotWrite(err)
	}
	if err := o.take(); err != nil {
		return o, errors.Join(err, o.lock.Close())
	}
	return o, nil
}

// take makes sure that the directory is ours alone, empty, and can be written to.
func (o *output) take() error {
	if err := unix.Flock(int(o.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return cli.NotRunError(fmt.Errorf("another run is using '%s'; give another directory with --output-dir DIR", o.dir))
	}
	there, err := o.lock.ReadDir(1)
	if len(there) > 0 {
		return cli.NotRunError(fmt.Errorf("'%s' is not empty, and nothing is overwritten; give a new directory with --output-dir DIR", o.dir))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return cannotWrite(err)
	}
	if err := unix.Access(o.dir, unix.W_OK|unix.X_OK); err != nil {
		return cannotWrite(&os.PathError{Op: "write", Path: o.dir, Err: err})
	}
	return nil
}

func cannotWrite(err error) error {
	return cli.NotRunError(fmt.Errorf("cannot write to the output directory: %w; give another one with --output-dir DIR", err))
}

// Close lets others have the directory.
func (o *output) Close() error {
	if o.lock == nil {
		return nil
	}
	return o.lock.Close()
}

// add keeps a recording and its file; kernel is a directory in between, or empty.
func (o *output) add(kernel string, r recording.Recording) error {
	if o.dir == "" {
		return nil
	}
	dir := filepath.Join(o.dir, o.name(filepath.Join(fileName(kernel), cmp.Or(fileName(r.Scenario), "scenario"))))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		pages.Write(filepath.Join(dir, "run.json"), r.Write),
		pages.Write(filepath.Join(dir, "scenario.yaml"), func(to io.Writer) error {
			_, err := io.WriteString(to, r.File.Text)
			return err
		}),
		packets(dir, &r))
}

// packets writes what taps have recorded for Wireshark: all in one file, and each tap in one of
// its own, since a packet that several taps have seen looks like one that was sent again.
func packets(dir string, r *recording.Recording) error {
	taps := pcapng.Taps(r)
	if len(taps) == 0 {
		return nil // none was sent, or the recording says why it has none
	}
	below := filepath.Join(dir, tapsDir)
	if err := os.Mkdir(below, 0o755); err != nil {
		return err
	}
	err := pages.Write(filepath.Join(dir, packetsFile), func(to io.Writer) error { return pcapng.Write(to, r, taps) })
	for i, t := range taps {
		name := fmt.Sprintf("%02d-%s.pcapng", i+1, fileName(t.Name))
		err = errors.Join(err, pages.Write(filepath.Join(below, name), func(to io.Writer) error { return pcapng.Write(to, r, taps[i:i+1]) }))
	}
	return err
}

// finish writes what is about all scenarios, and says where the page is.
func (o *output) finish(runs []report.Run, stdout, stderr io.Writer) error {
	if o.dir == "" {
		return nil
	}
	line := cli.NewProgress(stderr, pages.Quiet)
	line.Tell(pages.Making, o.dir)
	err := errors.Join(
		pages.Write(filepath.Join(o.dir, junitFile), func(to io.Writer) error { return report.JUnit(to, runs) }),
		pages.Write(filepath.Join(o.dir, summaryFile), func(to io.Writer) error { return report.Summary(to, runs) }),
		pages.Write(filepath.Join(o.dir, pageFile), func(to io.Writer) error { return page.Scenarios(to, runs) }),
	)
	line.Close()
	if err == nil {
		_, err = fmt.Fprintf(stdout, "\npage: %s\n", filepath.Join(o.dir, pageFile))
	}
	return err
}

// name makes a name one that nothing has yet.
func (o *output) name(want string) string {
	name := want
	for i := 2; o.used[name]; i++ {
		name = fmt.Sprintf("%s-%d", want, i)
	}
	o.used[name] = true
	return name
}

// fileName makes a name one of a directory: without a slash, without dots that lead
// elsewhere, and not too long.
func fileName(name string) string {
	const longest = 120
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '=', r == '.':
			return r
		default:
			return '-'
		}
	}, name)
	name = strings.TrimLeft(name, ".")
	return name[:min(len(name), longest)]
}
