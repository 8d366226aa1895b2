//go:build linux

package recycle

import (
	"context"
	"errors"
	"fmt"

	"twlab/harness/lab"
)

// Attach makes a node of a lab behave, from now until the lab closes, as if its kernel had
// tcp_tw_recycle and it were 1. The node must run the running kernel. See [Start] for what
// it needs, and the package comment for its limits.
func Attach(ctx context.Context, l *lab.Lab, name string, c Config) (*Emulation, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: emulate tcp_tw_recycle: %w", name, err)
	}
	inside, err := l.Inside(name)
	if errors.Is(err, lab.ErrGuest) {
		return nil, fmt.Errorf("%s: no emulation on %w", name, lab.ErrGuest)
	}
	if err != nil {
		return nil, err
	}
	e, err := Start(inside, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.CloseWith(e)
	return e, nil
}
