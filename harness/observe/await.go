//go:build linux

package observe

import (
	"context"
	"fmt"
	"time"
)

// The interval between two looks of [Await] is at first short in comparison with every
// kernel timer (a jiffy is 1 to 10 ms). It then grows with the time that has passed, so
// that an event after a minute does not take 30000 looks, and an event after days not a
// million.
const (
	shortestInterval = 2 * time.Millisecond
	longestInterval  = 100 * time.Millisecond
	lateness         = 32   // an event is noticed late by at most 1/32 of its time,
	latenessOfDays   = 1000 // and after 100 s by 1/1000
)

func interval(elapsed time.Duration) time.Duration {
	longest := max(longestInterval, elapsed/latenessOfDays)
	return min(max(shortestInterval, elapsed/lateness), longest)
}

// Await calls seen until it returns true or an error, or ctx ends. No other function waits
// by the clock. The error at the end of ctx wraps ctx.Err() and names the event, so that
// our own limit cannot be mistaken for an answer of the kernel.
func Await(ctx context.Context, event string, seen func() (bool, error)) error {
	began := time.Now()
	for {
		ok, err := seen()
		if err != nil {
			return fmt.Errorf("await %s: %w", event, err)
		}
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("await %s: %w", event, ctx.Err())
		}
		sleep(ctx, interval(time.Since(began)))
	}
}

// Pass waits for d, in a single sleep: with virtual time, idle time passes at once, and
// only wake-ups take real time. Use it where the time itself matters (an idle connection,
// an age), and [Await] for an event that can be observed. When ctx ends, its error is that
// of Await.
func Pass(ctx context.Context, d time.Duration, what string) error {
	sleep(ctx, d)
	if ctx.Err() != nil {
		return fmt.Errorf("await %s: %w", what, ctx.Err())
	}
	return nil
}

// sleep also ends with ctx, because after days the next look is half an hour away.
func sleep(ctx context.Context, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	}
}
