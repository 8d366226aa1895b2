//go:build linux

package tcp

import "time"

// SYNTimer describes when the kernel gives up an attempt that gets no answer, and returns
// ETIMEDOUT.
type SYNTimer struct {
	// Retries is net.ipv4.tcp_syn_retries.
	Retries int
	// Linear is net.ipv4.tcp_syn_linear_timeouts: this many timeouts pass before they begin
	// to double (Linux 6.5, commit ccce324dabfe); 0 on older kernels.
	Linear int
	// First is the first timeout; 0 means the 1 s of TCP_TIMEOUT_INIT (RFC 6298).
	// Before Linux 3.1 it was 3 s (commit 9ad7c049f0f7).
	First time.Duration
	// Longest is the upper limit of a timeout; 0 means the 120 s of TCP_RTO_MAX.
	Longest time.Duration
}

// GivesUp returns the time from connect(2) to ETIMEDOUT: 131 s by default, 127 s before
// Linux 6.5. The kernel decides at the end of each timeout. It gives up when it has
// repeated the SYN often enough, or has tried for as long as Retries would take without
// Linear (tcp_write_timeout, retransmits_timed_out, tcp_model_timeout). Its timers are up
// to an eighth late.
func (t SYNTimer) GivesUp() time.Duration {
	if t.First == 0 {
		t.First = time.Second
	}
	if t.Longest == 0 {
		t.Longest = 2 * time.Minute
	}
	enough := SYNTimer{Retries: t.Retries, First: t.First, Longest: t.Longest}.sum(t.Retries)
	for repeated := 0; ; repeated++ {
		passed := t.sum(repeated)
		if repeated >= t.Retries+t.Linear || repeated > 0 && passed >= enough {
			return passed
		}
	}
}

// sum returns the time after which the timeout ends that follows this many repetitions of
// the SYN.
func (t SYNTimer) sum(repetitions int) (sum time.Duration) {
	timeout := min(t.First, t.Longest)
	for i := range repetitions + 1 {
		sum += timeout
		if i >= t.Linear { // see tcp_retransmit_timer
			timeout = min(2*timeout, t.Longest)
		}
	}
	return sum
}
