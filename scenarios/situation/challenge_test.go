package situation

import (
	"testing"
	"time"

	"twlab/harness/observe"
)

func TestASYNMustComeWhileTheLimitIsInForce(t *testing.T) {
	at := time.Unix(1000, 0)
	after := func(d time.Duration, acks int) observe.SYNAccount {
		return observe.SYNAccount{Sent: 1, ACKs: acks, SYNs: []observe.SYN{{Sent: at.Add(d)}}}
	}
	for _, c := range []struct {
		name       string
		challenged time.Time
		account    observe.SYNAccount
		want       bool
	}{
		{"soon after a challenge", at, after(110*time.Millisecond, 0), true},
		{"when the limit may be over", at, after(485*time.Millisecond, 1), false},
		{"after no challenge, and nobody answers", time.Time{}, after(0, 0), true},
		{"after no challenge, which came late", time.Time{}, after(0, 1), false},
		{"no SYN at all", at, observe.SYNAccount{}, false},
	} {
		if got := limited(c.challenged, c.account); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
