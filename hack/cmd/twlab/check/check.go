// Package check has the subcommands that read scenario files without running them, and that
// write the first one.
package check

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/scriptfile"
)

const about = `Reads scenario files, and says everything that is wrong with them, each with its line. It needs
no privilege and runs nothing. A directory stands for all its files that end in .yaml.

--keys prints all keys of the format, what their values are and what they mean. --schema prints
a JSON schema of the format, by which an editor completes keys and marks slips: with the YAML
language server, a first line "# yaml-language-server: $schema=PATH".

Exit status: 0 if all files are right, 2 if one is not.`

// Command is the subcommand that checks files.
func Command() *cobra.Command {
	var keys, schema bool
	c := &cobra.Command{
		Use:   "check {FILE... | --keys | --schema}",
		Short: "Say what is wrong with scenario files, without running them",
		Long:  about,
		Example: `  twlab check scenarios/incidents
  twlab check --keys
  twlab check --schema > twlab.schema.json`,
	}
	c.Flags().BoolVar(&keys, "keys", false, "print the keys of the format")
	c.Flags().BoolVar(&schema, "schema", false, "print a JSON schema of the format, for editors")
	c.RunE = func(c *cobra.Command, words []string) error {
		switch {
		case keys && schema, (keys || schema) && len(words) > 0:
			return cli.Usage(errors.New("either files, or --keys, or --schema"))
		case keys:
			return writeKeys(c.OutOrStdout())
		case schema:
			text, err := scriptfile.Schema()
			if err == nil {
				_, err = c.OutOrStdout().Write(text)
			}
			return err
		case len(words) == 0:
			return cli.Usage(errors.New("which file? give at least one"))
		}
		files, err := scriptfile.ReadAll(words)
		if err != nil {
			return cli.NotRunError(err)
		}
		for _, f := range files {
			fmt.Fprintf(c.OutOrStdout(), "%s: right; %d scenario(s), %d twin(s)\n", f.Name, len(f.Scenarios), len(f.Twins))
		}
		return nil
	}
	return c
}

// writeKeys prints a table of all keys.
func writeKeys(to io.Writer) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, k := range scriptfile.Keys() {
		fmt.Fprintf(table, "%s\t%s\t%s\n", k.Path, k.Takes, k.Means)
	}
	return table.Flush()
}

//go:embed first.yaml
var first []byte

// New is the subcommand that writes a first file.
func New() *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Write a scenario file to begin with",
		Long: `Writes a scenario file with comments, which runs as it is. It does not overwrite a file.

Exit status: 0 if the file was written, 2 if not.`,
		Example: `  twlab new mine.yaml && twlab run mine.yaml`,
		RunE: func(c *cobra.Command, words []string) error {
			if len(words) != 1 {
				return cli.Usage(errors.New("which file? give the name of one that is not there yet"))
			}
			if err := write(words[0]); err != nil {
				return cli.NotRunError(err)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is there: change it, and run twlab run %[1]s\n", words[0])
			return nil
		},
	}
}

// write makes the file, which must not be there.
func write(name string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(first)
	return errors.Join(err, f.Close())
}
