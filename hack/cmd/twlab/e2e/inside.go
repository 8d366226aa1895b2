package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"twlab/hack/cmd/twlab/report"
	"twlab/hack/internal/cli"
)

const insideName = "told"

// Told is the subcommand that runs the suite's command inside the sandbox, and tells what it
// took and where results are, once Ginkgo has finished its reports.
func Told() *cobra.Command {
	return &cobra.Command{
		Use:                insideName + " COMMAND [ARGUMENT...]",
		Short:              "Run the suite's command and tell where results are",
		Hidden:             true,
		Annotations:        map[string]string{cli.SpeaksAs: "hack/e2e"},
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, argv []string) error {
			status, err := told(c.Context(), argv, os.Getenv("TWLAB_OUTPUT_DIR"), c.OutOrStdout())
			if err == nil && status != 0 {
				err = cli.StatusError{Status: status}
			}
			return err
		},
	}
}

// told outlives the command when signals come to the whole process group (outside of a
// terminal's foreground: CI, timeout(1)), and lets Ginkgo end the run in good order.
func told(ctx context.Context, argv []string, dir string, out io.Writer) (status int, err error) {
	if len(argv) == 0 {
		return 0, errors.New("no command")
	}
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGINT)
	if unix.Getpgrp() == os.Getpid() {
		signal.Notify(ignored, unix.SIGTERM, unix.SIGHUP)
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ours
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err = c.Run()
	s := c.ProcessState
	if s == nil {
		return 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	fmt.Fprintf(out, "\ntook %.3f s, and %.3f s + %.3f s of processor time (user + system)\n",
		time.Since(began).Seconds(), s.UserTime().Seconds(), s.SystemTime().Seconds())
	fmt.Fprintf(out, "\nresults in %s:\n", dir)
	for _, name := range []string{"cells.txt", "evidence/*", "junit.xml", "mutations.txt", "preflight.txt", "recordings", "report.json", "series"} {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil {
			return 0, fmt.Errorf("list results: %w", err)
		}
		for _, path := range found {
			if rel, err := filepath.Rel(dir, path); err == nil && filepath.Base(path) != madeByUs {
				fmt.Fprintln(out, "  "+rel)
			}
		}
	}
	report.Tell(out, filepath.Join(dir, report.FileName), []string{dir})
	if w, is := s.Sys().(syscall.WaitStatus); is && w.Signaled() {
		return 128 + int(w.Signal()), nil
	}
	return s.ExitCode(), nil
}
