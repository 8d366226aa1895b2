package client

import (
	"testing"
	"time"

	"twlab/scenarios/situation"
)

func TestAgeThatASamePortNeeds(t *testing.T) {
	for _, test := range []struct {
		name  string
		older bool
		delay time.Duration
		want  time.Duration
	}{
		{"older than a delay", true, time.Second, time.Second + situation.AgingSlack},
		{"older than a short delay", true, time.Millisecond, time.Millisecond + situation.AgingSlack},
		{"older without the sysctl", true, 0, 2*time.Second + situation.AgingSlack},
		{"younger than the default", false, time.Second, 0},
		{"younger than a long delay, older than the default", false, time.Minute, time.Second + situation.AgingSlack},
		{"younger without the sysctl", false, 0, 0},
	} {
		r := samePort{SamePort: SamePort{Older: test.older}, delay: test.delay}
		if got := r.age(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestYouthOfATimeWait(t *testing.T) {
	const clock = 7*time.Second + 900*time.Millisecond
	for _, test := range []struct {
		name   string
		delay  time.Duration
		passed time.Duration
		want   bool
	}{
		{"within the delay", time.Second, 999 * time.Millisecond, true},
		{"at the delay", time.Second, time.Second, false},
		{"within the second", 0, 99 * time.Millisecond, true},
		{"in the next second", 0, 100 * time.Millisecond, false},
	} {
		r := samePort{delay: test.delay}
		if got := r.young(clock, test.passed); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	var r samePort
	if r.young(8*time.Second, 0) {
		t.Error("at the beginning of a second, when the kernel's own count may be a tick behind: young")
	}
}
