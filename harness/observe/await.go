//go:build linux

package observe

import (
	"context"
	"fmt"
	"time"
)

// The interval between two looks of [Await] begins short against everything that
// a kernel timer does (a jiffy is 1 to 10 ms), and then grows with the time that
// has passed, so that what takes a minute is not looked at 30000 times, and what
// takes days not a million times.
const (
	shortestInterval = 2 * time.Millisecond
	longestInterval  = 100 * time.Millisecond
	lateness         = 32   // an event is seen late by at most 1/32 of its time,
	latenessOfDays   = 1000 // and after 100 s by 1/1000
)

func interval(elapsed time.Duration) time.Duration {
	longest := max(longestInterval, elapsed/latenessOfDays)
	return min(max(shortestInterval, elapsed/lateness), longest)
}

// Await looks at the evidence until it shows the event, or says that it cannot be
// asked, or ctx ends. It is the one place that waits by the clock; the error on
// the end of ctx wraps ctx.Err() and says what was awaited, so that our own
// patience never passes for something that the kernel said.
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

// Pass lets a time pass, in one sleep: where idle time passes at once, days last
// as long as the wakes in them are many. It is for what is nothing but time (an
// idle connection, an age); what can be seen is for [Await], whose error it has
// when ctx ends.
func Pass(ctx context.Context, d time.Duration, what string) error {
	sleep(ctx, d)
	if ctx.Err() != nil {
		return fmt.Errorf("await %s: %w", what, ctx.Err())
	}
	return nil
}

// sleep ends with ctx, because after days of it the next look is half an hour away.
func sleep(ctx context.Context, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
	}
}
