package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	pages "twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
	"twlab/harness/lab"
	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/scenarios/roles"
)

// task is one scenario to run.
type task struct {
	file     scriptfile.File
	scenario script.Scenario
	twin     bool
}

// tasks lists what is to run, in the order of the files: each file's scenarios, then its twins.
func (o *options) tasks(files []scriptfile.File) (all []task) {
	for _, f := range files {
		for _, s := range f.Scenarios {
			all = append(all, task{f, s, false})
		}
		if !o.twins {
			continue
		}
		for _, s := range f.Twins {
			all = append(all, task{f, s, true})
		}
	}
	return all
}

// here runs the files in this sandbox, and says what came of each at once.
func (o *options) here(ctx context.Context, files []scriptfile.File, stdout, stderr io.Writer) error {
	out, err := openOutput(o.output)
	if err != nil {
		return err
	}
	defer out.Close()
	assigned, err := o.assigned(files)
	if err != nil {
		return err
	}
	line := cli.NewProgress(stderr, 0)
	defer line.Close()
	r := runner{assigned: assigned, line: line, by: describe()}
	var run report.Run
	for _, t := range o.tasks(files) {
		kept := keeper{when: o.keep, text: o.text(), stdout: stdout, line: line}
		seen := r.one(ctx, t, &kept)
		run.Recordings = append(run.Recordings, seen)
		line.Clear()
		if !kept.told {
			err = errors.Join(o.text()(stdout, seen), writeClaimed(stdout, t.scenario, seen))
		}
		if err := errors.Join(err, out.add("", seen)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := table(stdout, run.Recordings); err != nil {
		return err
	}
	run.Problem = unfinished(ctx, len(run.Recordings), len(o.tasks(files)))
	runs := []report.Run{run}
	if err := out.finish(runs, stdout, stderr); err != nil {
		return err
	}
	return ended(ctx, runs)
}

// table writes the table at the end, where there is more than one scenario.
func table(stdout io.Writer, all []recording.Recording) error {
	if len(all) < 2 {
		return nil
	}
	fmt.Fprintln(stdout)
	return report.Table(stdout, all)
}

// unfinished says how many scenarios an interrupt has kept from running; empty for none.
func unfinished(ctx context.Context, done, wanted int) string {
	if ctx.Err() == nil || done >= wanted {
		return ""
	}
	return fmt.Sprintf("interrupted: %d of %d scenarios were not run", wanted-done, wanted)
}

// record runs the files, and leaves their recordings in a directory: 0001.json and so on.
func (o *options) record(ctx context.Context, files []scriptfile.File, stdout io.Writer) error {
	line := cli.NewProgress(stdout, 0)
	defer line.Close()
	r := runner{line: line, by: describe()}
	for i, t := range o.tasks(files) {
		if err := pages.Write(filepath.Join(o.recordTo, numbered(i)), r.one(ctx, t, &keeper{}).Write); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil
}

// numbered is the file of the i-th recording.
func numbered(i int) string { return fmt.Sprintf("%04d.json", i+1) }

// readRecordings reads what record has left.
func readRecordings(dir string) (all []recording.Recording, err error) {
	for i := 0; ; i++ {
		file, err := os.Open(filepath.Join(dir, numbered(i)))
		if errors.Is(err, os.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		r, err := recording.Read(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return all, fmt.Errorf("%s: %w", file.Name(), err)
		}
		all = append(all, r)
	}
}

// runner runs scenarios one after the other.
type runner struct {
	assigned assignment
	line     *cli.Progress
	by       string
}

// one runs one scenario. What goes wrong is in the recording.
func (r runner) one(ctx context.Context, t task, kept *keeper) recording.Recording {
	run := play.Runner{Probe: roles.Probe, Kinds: r.assigned.kinds(t.scenario), Progress: func(p play.Progress) {
		r.line.Tell(fmt.Sprintf("%s: step %d of %d", t.scenario.Name, p.Step, p.Steps), p.What)
	}}
	complete := func(from recording.Recording) recording.Recording {
		from.By, from.Twin = r.by, t.twin
		from.File = recording.File{Name: filepath.Base(t.file.Name), Text: string(t.file.Text)}
		return from
	}
	if kept.when != "" {
		run.Keep = func(ctx context.Context, seen recording.Recording, l *lab.Lab) error {
			return kept.keep(ctx, complete(seen), l)
		}
	}
	seen, err := run.Run(ctx, t.scenario)
	if err != nil && seen.Unbuilt == "" && seen.Interrupted == "" && seen.Failed == "" {
		seen.Failed = err.Error()
	}
	if seen.Unbuilt != "" && len(r.assigned) > 0 {
		seen.Unbuilt += "; a guest has no iptables and runs no programs, and --kernel all= is for the whole network"
	}
	return complete(seen)
}
