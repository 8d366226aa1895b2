package topo

import (
	"math"
	"strings"
	"testing"
	"time"
)

// All mistakes of a link's shape are told, with the end that sends.
func TestLinkSaysWhatIsWrongWithItsShape(t *testing.T) {
	for want, change := range map[string]func(*Link){
		`MTU of 67 bytes: want 68 to 65535, or 0 for 1500`:        func(l *Link) { l.MTU = 67 },
		`what client sends: loss of 101 percent: want 0 to 100`:   func(l *Link) { l.OuterSends.Loss = 101 },
		`what router sends: duplicate of -1 percent`:              func(l *Link) { l.InnerSends.Duplicate = -1 },
		`loss of NaN percent`:                                     func(l *Link) { l.OuterSends.Loss = math.NaN() },
		`delay of 5m0s: want 0 to 4m0s`:                           func(l *Link) { l.OuterSends.Delay = 5 * time.Minute },
		`jitter of 2s: want 0 to the delay, 1s`:                   func(l *Link) { l.OuterSends = Impairment{Delay: time.Second, Jitter: 2 * time.Second} },
		`rate of 7 bits per second`:                               func(l *Link) { l.OuterSends.Rate = 7 },
		`limit of -1 packets: want 1`:                             func(l *Link) { l.OuterSends.Limit = -1 },
		`limit of 9 packets without delay or rate: nothing waits`: func(l *Link) { l.OuterSends.Limit = 9 },
	} {
		if err := chain(func(n *Network) { change(&n.Links[0]) }).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	good := func(n *Network) {
		n.Links[0].MTU = 1000
		n.Links[0].InnerSends = Impairment{Loss: 100, Duplicate: 0.1, Delay: time.Second, Jitter: time.Second, KeepOrder: true, Rate: 1e6, Limit: 1}
	}
	if err := chain(good).Validate(); err != nil {
		t.Error(err)
	}
	err := chain(func(n *Network) { n.Links[0].MTU, n.Links[0].OuterSends = 1, Impairment{Loss: 101, Rate: 1} }).Validate()
	for _, want := range []string{"MTU of 1 ", "loss of 101", "rate of 1 "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want all at once, %q too", err, want)
		}
	}
}
