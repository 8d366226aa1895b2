//go:build linux

package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const day = 24 * time.Hour

func TestIntervalGrowsWithWhatHasPassed(t *testing.T) {
	for elapsed, want := range map[time.Duration]time.Duration{
		0:                      2 * time.Millisecond,
		640 * time.Millisecond: 20 * time.Millisecond,
		time.Minute:            100 * time.Millisecond,
		25 * day:               25 * day / 1000,
	} {
		if got := interval(elapsed); got != want {
			t.Errorf("after %v: %v, want %v", elapsed, got, want)
		}
	}
}

// After ten days the next look is a quarter of an hour away, which is longer than
// anybody waits who has ended ctx.
func TestAwaitEndsWithItsContext(t *testing.T) {
	for name, wait := range map[string]func(context.Context) error{
		"await": func(ctx context.Context) error {
			return Await(ctx, "the end", func() (bool, error) { return false, nil })
		},
		"pass": func(ctx context.Context) error { return Pass(ctx, 25*day, "the end") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*day, cancel)
				err := wait(ctx)
				if took := time.Since(began); took != 10*day || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the end") {
					t.Errorf("it ended after %v: %v", took, err)
				}
			})
		})
	}
}

func TestPassTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := Pass(t.Context(), 25*day, "an idle connection"); err != nil || time.Since(began) != 25*day {
			t.Errorf("%v passed: %v", time.Since(began), err)
		}
	})
}
