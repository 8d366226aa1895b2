package client

import (
	"testing"
	"time"
)

func TestSameClockKnowsItsTicks(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name     string
		from, to uint32
		between  time.Duration
		want     string
	}{
		{"a millisecond clock", 5000, 6000, second, "same"},
		{"250 ticks a second", 5000, 5250, second, "same"},
		{"past 2^32", 1<<32 - 500, 500, second, "same"},
		{"a machine that booted 20 s later, with 100 ticks a second", 5000, 3000, -20 * second, "same"},
		{"a clock that stood still meanwhile", 5000, 25001, -20 * second, "different"},
		{"ahead by ten seconds", 5000, 16000, second, "different"},
		{"behind by ten seconds", 15000, 6000, second, "different"},
		{"half the range away", 0, 1 << 31, second, "different"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameClock(c.from, c.to, c.between); got != c.want {
				t.Errorf("sameClock(%d, %d, %v) = %q, want %q", c.from, c.to, c.between, got, c.want)
			}
		})
	}
}
