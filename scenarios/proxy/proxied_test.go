package proxy

import (
	"net/netip"
	"testing"

	"twlab/harness/observe"
	"twlab/scenarios/situation"
)

func TestHowManyPortsAreInTimeWait(t *testing.T) {
	client, other := netip.MustParseAddrPort("10.10.0.2:50000"), netip.MustParseAddrPort("10.10.0.2:50001")
	listener := netip.MustParseAddrPort("10.20.0.2:80")
	used := map[situation.Route]bool{{From: client, To: listener}: true, {From: other, To: listener}: true}
	socket := func(local, remote netip.AddrPort, in observe.State) observe.Socket {
		return observe.Socket{Local: local, Remote: remote, State: in}
	}
	for _, c := range []struct {
		name        string
		sockets     observe.Sockets
		atBeginning bool
		want        string
	}{
		{"nobody's", nil, false, "none"},
		{"at the listener", observe.Sockets{socket(listener, client, observe.TimeWait), socket(listener, other, observe.TimeWait)}, false, "all"},
		{"at the client", observe.Sockets{socket(client, listener, observe.TimeWait), socket(other, listener, observe.TimeWait)}, true, "all"},
		{"at the wrong end", observe.Sockets{socket(client, listener, observe.TimeWait), socket(other, listener, observe.TimeWait)}, false, "none"},
		{"one that is still closing", observe.Sockets{socket(listener, client, observe.TimeWait), socket(listener, other, observe.LastAck)}, false, "some"},
	} {
		if got := situation.HowMany(used, situation.Waiting(c.sockets, c.atBeginning)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
