//go:build linux

package lab

import (
	"context"
	"fmt"
	"time"
)

// linkUpBudget limits the wait for a link that comes up again by itself, when nobody waits.
const linkUpBudget = 10 * time.Second

// Flap takes a link down, as SetLink does, and up again after a time; 0 is until the fault is
// ended.
func (l *Lab) Flap(ctx context.Context, name string, down time.Duration) (*Fault, error) {
	if down < 0 {
		return nil, fmt.Errorf("flap of link %s for %v: want more than 0, or 0 for no limit", name, down)
	}
	if err := l.SetLink(ctx, name, false); err != nil {
		return nil, err
	}
	return l.lasting("flap of link "+name, down, func() error {
		ctx, stop := context.WithTimeout(context.Background(), linkUpBudget)
		defer stop()
		return l.SetLink(ctx, name, true)
	}), nil
}
