//go:build linux

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"twlab/harness/internal/program"
)

// Check lets HAProxy check a configuration (haproxy -c). The error is [ErrMissing],
// [ErrTooOld], or [ErrRejected] with HAProxy's messages.
func Check(ctx context.Context, c Config) error {
	path, err := installed()
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	text, err := c.text()
	if err != nil {
		return err
	}
	return c.check(ctx, path, text)
}

func (c Config) check(ctx context.Context, path, text string) (err error) {
	in, err := openInput(text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	command := exec.CommandContext(ctx, path, "-c", "-f", program.FilePath(configurationFD))
	command.ExtraFiles = in.files()
	said, err := command.CombinedOutput()
	if err == nil {
		return nil
	}
	if old := c.tooOld(ctx, path); old != nil {
		return old
	}
	return fmt.Errorf("%w: %w:\n%s", ErrRejected, err, alerts(string(said)))
}

// alerts returns HAProxy's complaints, without the messages that it always prints.
func alerts(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "[NOTICE]") {
			lines = append(lines, "\t"+strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}
