package observe

import (
	"testing"
	"time"
)

func TestIntervalGrowsWithWhatHasPassed(t *testing.T) {
	const day = 24 * time.Hour
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
