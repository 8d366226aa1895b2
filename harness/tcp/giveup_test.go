//go:build linux

package tcp_test

import (
	"testing"
	"time"

	"twlab/harness/tcp"
)

func TestWhenTheKernelGivesUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		timer tcp.SYNTimer
		want  time.Duration
	}{
		{"defaults since 6.5", tcp.SYNTimer{Retries: 6, Linear: 4}, 131 * time.Second},
		{"defaults since 3.7", tcp.SYNTimer{Retries: 6}, 127 * time.Second},
		{"defaults before 3.1", tcp.SYNTimer{Retries: 5, First: 3 * time.Second}, 189 * time.Second},
		{"one retry", tcp.SYNTimer{Retries: 1}, 3 * time.Second},
		{"one retry, with the default of linear timeouts", tcp.SYNTimer{Retries: 1, Linear: 4}, 3 * time.Second},
		{"no timeout is longer than 120 s", tcp.SYNTimer{Retries: 8}, (1 + 2 + 4 + 8 + 16 + 32 + 64 + 120 + 120) * time.Second},
		{"a shorter longest", tcp.SYNTimer{Retries: 3, Longest: 2 * time.Second}, 7 * time.Second},
	} {
		if got := c.timer.GivesUp(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
