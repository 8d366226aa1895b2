// Package report is the subcommand that makes a page of results.
package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/page"
	"twlab/harness/report"
)

// FileName is the page of a directory of results.
const FileName = "report.html"

const about = `Makes one HTML file of results, to be looked at and mailed: it loads nothing, and is read without
a script. DIR is what twlab run --output-dir has left: all its recordings are on the page, with
what happened, the proof, the network, a ladder of the packets, and the tables before and after.

The file is report.html in DIR, or in the first one, unless --output says otherwise ("-" is
standard output).

Exit status: 0 if the page was written, 2 if a directory has no results.`

// Command is the subcommand.
func Command() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "report DIR...",
		Short: "Make a page of results, in one file that can be mailed",
		Long:  about,
		Example: `  twlab run --output-dir results scenarios/incidents/late-dnat-rule.yaml
  twlab report results`,
		RunE: func(c *cobra.Command, dirs []string) error {
			if len(dirs) == 0 {
				return cli.Usage(errors.New("which directory? give at least one"))
			}
			if output == "" {
				output = filepath.Join(dirs[0], FileName)
			}
			r, err := read(dirs)
			if err != nil {
				return cli.NotRunError(err)
			}
			return write(c.OutOrStdout(), output, r)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FILE` to write; - for standard output")
	return c
}

// write writes the page, and says where it is.
func write(stdout io.Writer, path string, runs []report.Run) error {
	if path == "-" {
		return page.Scenarios(stdout, runs)
	}
	if err := Write(path, func(to io.Writer) error { return page.Scenarios(to, runs) }); err != nil {
		return cli.NotRunError(err)
	}
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
