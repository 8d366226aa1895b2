package diagnose

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"

	"twlab/harness/diagnose"
	"twlab/harness/foreign"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/scenarios/causes"
	"twlab/scenarios/incidents"
)

// reproduce writes a scenario that brings about what the first connection with a cause died of.
func reproduce(path string, result *foreign.Result, stdout io.Writer) error {
	files, err := scenarioFiles()
	if err != nil {
		return err
	}
	for _, d := range deaths(result) {
		if len(d.why.Findings) == 0 {
			continue
		}
		text, err := scenario(d.why, files)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.WriteString(file, text)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		fmt.Fprintln(stdout, report.Plain(fmt.Sprintf("%s brings about %s: twlab run %[1]s", path, d.why.Findings[0].Cause.ID)))
		return nil
	}
	return errors.New("no connection has a cause that is known, so there is nothing to reproduce")
}

// scenario is a file that brings about the first of the causes that fit, over the version of IP
// of the capture. It is made of the first of the files that expects this cause.
func scenario(d diagnose.Diagnosis, files []scriptfile.File) (string, error) {
	id := d.Findings[0].Cause.ID
	f, err := fileOf(id, files)
	if err != nil {
		return "", err
	}
	version := "4"
	if d.Attempt.Remote.Addr().Is6() {
		version = "6"
	}
	text := twins.ReplaceAllString(string(f.Text), "")
	text = versions.ReplaceAllString(text, "${1}["+version+"]")
	head := fmt.Sprintf("# Brings about %s, as twlab knows it: the network is as small as it can be, and not yours.\n# Written from a capture of %v > %v (%s).\n",
		id, d.Attempt.Local, d.Attempt.Remote, d.Status)
	if len(d.Findings) > 1 {
		head += fmt.Sprintf("# These fit the capture as well: %s.\n", ids(d.Findings[1:]))
	}
	if _, err := scriptfile.Read("reproduce.yaml", []byte(head+text)); err != nil {
		return "", fmt.Errorf("write a scenario of %s: %w", id, err)
	}
	return head + text, nil
}

var (
	// twins is the key with all that is below it.
	twins = regexp.MustCompile(`(?m)^twins:.*\n(?:[ \t].*\n)*`)
	// versions is the parameter of the version of IP.
	versions = regexp.MustCompile(`(\bip: )\[4, 6\]`)
)

// scenarioFiles are all files that bring about a cause. Those of the causes are the smallest, so
// that they come first.
func scenarioFiles() ([]scriptfile.File, error) {
	smallest, err := causes.All()
	if err != nil {
		return nil, err
	}
	larger, err := incidents.All()
	if err != nil {
		return nil, err
	}
	return slices.Concat(smallest, larger), nil
}

// fileOf is the first of the files that brings about a cause.
func fileOf(id string, files []scriptfile.File) (scriptfile.File, error) {
	for _, f := range files {
		expects := slices.ContainsFunc(f.Scenarios, func(s script.Scenario) bool {
			return slices.ContainsFunc(s.Steps, func(s script.Step) bool {
				return slices.ContainsFunc(s.Expect, func(e script.Expectation) bool { return e.Cause == id })
			})
		})
		if expects {
			return f, nil
		}
	}
	return scriptfile.File{}, fmt.Errorf("no scenario file brings about %s", id)
}
