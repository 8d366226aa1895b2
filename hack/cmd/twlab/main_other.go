//go:build !linux

package main

import (
	"os"

	"github.com/spf13/cobra"

	"twlab/hack/cmd/twlab/check"
	"twlab/hack/cmd/twlab/diagnose"
	"twlab/hack/cmd/twlab/explain"
	"twlab/hack/cmd/twlab/lint"
	"twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
)

// main has the subcommands that only read files: the others need Linux.
func main() {
	root := cli.Group(&cobra.Command{
		Use:           "twlab",
		Short:         "Read scenario files and sysctl.conf files; all else needs Linux",
		SilenceErrors: true, // we say them, in one line
		SilenceUsage:  true,
	})
	root.SetFlagErrorFunc(cli.WrongFlag)
	root.AddCommand(check.Command(), check.New(), explain.Command(), diagnose.Command(), lint.Command(), report.Command())
	c, err := root.ExecuteC()
	os.Exit(cli.Report(os.Stderr, c, err))
}
