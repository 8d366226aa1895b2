// Package report is the subcommand that makes a page of results.
package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/page"
)

// FileName is the page of a directory of results.
const FileName = "report.html"

const about = `Makes one HTML file of results, to be looked at and mailed: it loads nothing, and is read without
a script. DIR is what one of these has left:

  twlab run --output-dir DIR   all its recordings are on the page, with what happened, the
                               proof, the network, a ladder of the packets, and the tables
                               before and after
  hack/e2e --output-dir DIR    whether a setting is safe, what the document says and the kernel
                               did, every cell with its evidence, incidents, loads over time,
                               and what was left out. Several directories are several kernels,
                               which the page compares

A directory of directories stands for all of them. The file is report.html in DIR, or in the
first one, unless --output says otherwise ("-" is standard output).

Exit status: 0 if the page was written, 2 if a directory has no results.`

// Command is the subcommand.
func Command() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "report DIR...",
		Short: "Make a page of results, in one file that can be mailed",
		Long:  about,
		Example: `  twlab run --output-dir results scenarios/incidents/late-dnat-rule.yaml
  twlab report results
  hack/e2e --output-dir out && twlab report out
  twlab report --output kernels.html out-6.18 out-5.10`,
		RunE: func(c *cobra.Command, dirs []string) error {
			if len(dirs) == 0 {
				return cli.Usage(errors.New("which directory? give at least one"))
			}
			if output == "" {
				output = filepath.Join(dirs[0], FileName)
			}
			line := cli.NewProgress(c.ErrOrStderr(), Quiet)
			defer line.Close()
			content, err := pageOf(dirs, line)
			if err != nil {
				return cli.NotRunError(err)
			}
			return write(c.OutOrStdout(), output, content, line)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write; - for standard output")
	return c
}

// Making is what is said while a page is made; Quiet is how long nothing is said.
const (
	Making = "making the page"
	Quiet  = 2 * time.Second
)

// made writes a page.
type made func(to io.Writer) error

// pageOf finds out of what kind the results are, and reads them.
func pageOf(dirs []string, line *cli.Progress) (made, error) {
	suites, err := suitesIn(dirs)
	if err != nil {
		return nil, err
	}
	if len(suites) > 0 {
		return ofSuites(suites, line)
	}
	runs, err := read(dirs, line)
	return func(to io.Writer) error { return page.Scenarios(to, runs) }, err
}

// suitesIn are the directories that have results of the suite: those that were given, or those just
// below them.
func suitesIn(dirs []string) (found []string, err error) {
	for _, dir := range dirs {
		for _, pattern := range []string{suiteFile, filepath.Join("*", suiteFile)} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				found = append(found, filepath.Dir(file))
			}
			if len(files) > 0 {
				break
			}
		}
	}
	return found, nil
}

// What a run of the suite leaves: startedFile when it begins, suiteFile at its end.
const (
	startedFile = "preflight.txt"
	suiteFile   = "report.json"
)

// Tell makes the page of the runs of the suite whose results are in directories, and says where it
// is, or why there is none. A run that has driven nothing, as a dry run, has none.
func Tell(out io.Writer, path string, dirs []string) {
	var driven []string
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, startedFile)); err == nil {
			driven = append(driven, dir)
		}
	}
	if len(driven) == 0 {
		return
	}
	line := cli.NewProgress(out, Quiet)
	content, err := ofSuites(driven, line)
	if err == nil {
		line.Tell(Making, path)
		err = Write(path, content)
	}
	line.Close()
	if err != nil {
		fmt.Fprintf(out, "\nno page: %v\n", err)
		return
	}
	fmt.Fprintf(out, "\npage: %s\n", path)
}

// write writes the page, and says where it is.
func write(stdout io.Writer, path string, content made, line *cli.Progress) error {
	line.Tell(Making, path)
	if path == "-" {
		return content(stdout)
	}
	if err := Write(path, content); err != nil {
		return cli.NotRunError(err)
	}
	line.Clear()
	fmt.Fprintln(stdout, path)
	return nil
}

// Write writes a file whole or not at all.
func Write(path string, content func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".unfinished-")
	if err != nil {
		return err
	}
	err = errors.Join(content(file), file.Chmod(0o644), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}
