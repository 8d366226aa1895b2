package situation

import (
	"testing"
	"time"

	"twlab/harness/tcp"
)

func TestWhenAClockSaysTheSame(t *testing.T) {
	read := ClockReading{ClockReading: tcp.ClockReading{At: 7*time.Second + 900*time.Microsecond, Ticks: 5000}}
	for _, c := range []struct {
		name  string
		tick  time.Duration
		value uint32
		want  time.Duration
	}{
		{"milliseconds ahead", time.Millisecond, 5300, 7300 * time.Millisecond},
		{"jiffies ahead", 4 * time.Millisecond, 5075, 7300*time.Millisecond + 900*time.Microsecond},
		{"past", time.Millisecond, 4990, 6990 * time.Millisecond},
	} {
		if got := (shown{value: c.value, clock: read, tick: c.tick}).moment(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAimAfterAMiss(t *testing.T) {
	const tick = 4 * time.Millisecond
	for late, want := range map[int32]time.Duration{0: 0, 3: 3 * tick, 11: 0, -2: 0} {
		if got := aim(late, tick); got != want {
			t.Errorf("%d ticks late: %v earlier, want %v", late, got, want)
		}
	}
}
