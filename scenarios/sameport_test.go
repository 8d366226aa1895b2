package scenarios

import (
	"testing"
	"time"
)

func TestAgeThatASamePortNeeds(t *testing.T) {
	for _, test := range []struct {
		name     string
		older    bool
		hasDelay bool
		delay    time.Duration
		want     time.Duration
	}{
		{"older than a delay", true, true, time.Second, time.Second + agingSlack},
		{"older than a short delay", true, true, time.Millisecond, time.Millisecond + agingSlack},
		{"older without the sysctl", true, false, time.Millisecond, 2*time.Second + agingSlack},
		{"younger than the default", false, true, time.Second, 0},
		{"younger than a long delay, older than the default", false, true, time.Minute, time.Second + agingSlack},
		{"younger without the sysctl", false, false, time.Minute, 0},
	} {
		r := samePort{SamePort: SamePort{Older: test.older, Delay: test.delay}, hasDelay: test.hasDelay}
		if got := r.age(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestYouthOfATimeWait(t *testing.T) {
	const clock = 7*time.Second + 900*time.Millisecond
	for _, test := range []struct {
		name     string
		hasDelay bool
		passed   time.Duration
		want     bool
	}{
		{"within the delay", true, 999 * time.Millisecond, true},
		{"at the delay", true, time.Second, false},
		{"within the second", false, 99 * time.Millisecond, true},
		{"in the next second", false, 100 * time.Millisecond, false},
	} {
		r := samePort{SamePort: SamePort{Delay: time.Second}, hasDelay: test.hasDelay}
		if got := r.young(clock, test.passed); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
