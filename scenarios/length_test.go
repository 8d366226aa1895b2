package scenarios

import (
	"testing"
	"time"
)

func TestLastingTellsTheLengthOfATimer(t *testing.T) {
	for _, c := range []struct {
		left, elapsed time.Duration
		want          string
	}{
		{60 * time.Second, 0, "60 s"},
		{59990 * time.Millisecond, 20 * time.Millisecond, "60 s"},
		{60004 * time.Millisecond, time.Millisecond, "60 s"},
		{58 * time.Second, 2 * time.Second, "60 s"},
		{996 * time.Millisecond, 5 * time.Millisecond, "1 s"},
		{4999 * time.Millisecond, time.Millisecond, "5 s"},
		{30 * time.Second, time.Second, "30s"},
		{700 * time.Millisecond, 10 * time.Millisecond, "700ms"},
	} {
		if got := lasting(c.left, c.elapsed); got != c.want {
			t.Errorf("lasting(%v, %v) = %q, want %q", c.left, c.elapsed, got, c.want)
		}
	}
}
