package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"twlab/hack/cmd/twlab/guest"
	"twlab/hack/internal/cli"
	machines "twlab/harness/guest"
	"twlab/harness/report"
	"twlab/harness/scriptfile"
)

// running is the word for this machine's own kernel.
const running = "running"

// onKernels runs the files on several kernels, each in a process of its own, and says what
// their recordings show.
func (o *options) onKernels(ctx context.Context, files []scriptfile.File, stdout, stderr io.Writer) error {
	wanted := o.kernels
	if o.all != "" {
		wanted = []string{o.all}
	}
	virtual := map[string]bool{}
	for _, k := range wanted {
		if k == running {
			continue
		}
		accelerator, err := (guest.Machine{Kernel: k}).Check(ctx)
		if err != nil {
			return cannot(err) // which names it
		}
		// An emulated machine is slow: only where idle time passes at once are its timers right.
		virtual[k] = accelerator != string(machines.KVM)
	}
	out, err := openOutput(o.output)
	if err != nil {
		return err
	}
	defer out.Close()
	var runs []report.Run
	err = cli.Temporary("twlab-run-", func(dir string) error {
		var agent string
		if slices.ContainsFunc(wanted, func(k string) bool { return k != running }) {
			if agent, err = agentFor(ctx, dir, runtime.GOARCH, stderr); err != nil {
				return err
			}
		}
		for i, k := range wanted {
			if ctx.Err() != nil {
				all := len(o.tasks(files))
				runs = append(runs, report.Run{Kernel: k, Problem: unfinished(ctx, 0, all)})
				continue
			}
			at := guest.Machine{Kernel: k, Agent: agent, VirtualTime: virtual[k], Results: filepath.Join(dir, fmt.Sprint(i))}
			runs = append(runs, o.onOne(ctx, at, files, stderr))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return o.told(ctx, files, runs, out, stdout, stderr)
}

// told says what the runs have shown, and keeps it.
func (o *options) told(ctx context.Context, files []scriptfile.File, runs []report.Run, out *output, stdout, stderr io.Writer) error {
	for _, run := range runs {
		for i, r := range run.Recordings {
			kernel := run.Kernel
			if o.all != "" {
				kernel = ""
				if err := errors.Join(o.text()(stdout, r), writeClaimed(stdout, o.tasks(files)[i].scenario, r)); err != nil {
					return err
				}
			}
			if err := out.add(kernel, r); err != nil {
				return err
			}
		}
	}
	show := func() error { return report.Kernels(stdout, runs) }
	if o.all != "" {
		show = func() error { return table(stdout, runs[0].Recordings) }
	}
	if err := show(); err != nil {
		return err
	}
	if err := out.finish(runs, stdout, stderr); err != nil {
		return err
	}
	return ended(ctx, runs)
}

// onOne runs the files on one kernel.
func (o *options) onOne(ctx context.Context, at guest.Machine, files []scriptfile.File, stderr io.Writer) report.Run {
	run := report.Run{Kernel: at.Kernel}
	err := os.Mkdir(at.Results, 0o755)
	var status int
	var said bytes.Buffer
	if err == nil {
		status, err = o.child(ctx, at, files, &lines{line: cli.NewProgress(stderr, 0), before: at.Kernel + ": "}, &said)
	}
	var read error
	run.Recordings, read = readRecordings(at.Results)
	missing := len(o.tasks(files)) - len(run.Recordings)
	switch err := errors.Join(err, read); {
	case err != nil:
		run.Problem = err.Error()
	case ctx.Err() != nil:
		run.Problem = unfinished(ctx, len(run.Recordings), len(o.tasks(files)))
	case status != 0 || missing > 0:
		text, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		run.Problem = fmt.Sprintf("%d scenarios were not run, exit status %d: %s", missing, status, text)
	}
	return run
}

// child runs this program on a kernel, in the sandbox.
func (o *options) child(ctx context.Context, at guest.Machine, files []scriptfile.File, progress *lines, said *bytes.Buffer) (status int, err error) {
	defer progress.line.Close()
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	argv := []string{self, "run", "--record-to=" + at.Results}
	if o.twins {
		argv = append(argv, "--twins")
	}
	argv = append(argv, "--")
	for _, f := range files {
		path, err := filepath.Abs(f.Name)
		if err != nil {
			return 0, err
		}
		argv, at.Files = append(argv, path), append(at.Files, path)
	}
	if at.Kernel != running {
		argv = append([]string{self}, at.Arguments(argv...)...)
	}
	if argv, err = cli.InSandbox(argv...); err != nil {
		return 0, err
	}
	progress.line.Tell(at.Kernel+": begins", "")
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ourselves
	c.Stdout, c.Stderr = progress, said
	_, status, err = cli.Child(c)
	return status, err
}

// lines tells what it is given line by line.
type lines struct {
	line   *cli.Progress
	before string // of each line
	begun  []byte // a line whose end is still to come
}

func (l *lines) Write(text []byte) (int, error) {
	l.begun = append(l.begun, text...)
	for {
		line, rest, whole := bytes.Cut(l.begun, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		l.line.Tell(l.before+string(line), "")
		l.begun = bytes.Clone(rest)
	}
}
