package topo

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Timeouts are sysctls of one node or of a role, and those that are zero are not set.
func TestConntrackTimeouts(t *testing.T) {
	timeouts := ConntrackTimeouts{SYNSent: 2 * time.Second, CloseWait: time.Hour, MaxRetrans: time.Second}
	got, err := timeouts.OnNode("router")
	want := OnNode(
		"router", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=2", "net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600",
		"net.netfilter.nf_conntrack_tcp_timeout_max_retrans=1",
	)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := timeouts.On(Gateway); err != nil || len(got) != 3 || got[0].Role != Gateway {
		t.Errorf("%v, %v", got, err)
	}
	_, err = ConntrackTimeouts{SYNSent: 1500 * time.Millisecond, Established: -time.Second, Close: 10000 * time.Hour}.On(Gateway)
	for _, want := range []string{"syn_sent of 1.5s: want whole seconds", "established of -1s", "close of 10000h0m0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want all at once, %q too", err, want)
		}
	}
}
