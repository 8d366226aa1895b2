package nat

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"twlab/harness/observe"
)

// A client may come from the same port again by chance, and the gateway then deletes the
// entry of the earlier connection, whatever port it gives to the new one.
func TestReuseGapsLeaveOutTheSameConnection(t *testing.T) {
	listener := netip.MustParseAddrPort("10.20.0.2:80")
	var packets []observe.Packet
	began := time.Unix(0, 0)
	syn := func(after time.Duration, from, as string, id uint16) {
		outside := netip.MustParseAddrPort(as)
		p := observe.Packet{Point: "gateway", Time: began.Add(after), Dst: listener, Flags: observe.FlagSYN, ID: id}
		in, out := p, p
		in.Interface, in.Src = "client0", netip.MustParseAddrPort(from)
		out.Interface, out.Src = "balancer", outside
		answer := out
		answer.Src, answer.Dst, answer.Flags, answer.ID = listener, outside, observe.FlagSYN|observe.FlagACK, 0
		packets = append(packets, in, out, answer)
	}
	const port, other = "10.20.0.1:40000", "10.20.0.1:40001"
	syn(0, "10.10.0.2:50000", port, 1)
	syn(2*time.Second, "10.10.0.3:50000", port, 2)
	syn(3*time.Second, "10.10.0.3:50000", port, 3)
	syn(5*time.Second, "10.10.0.2:50002", port, 4)
	syn(6*time.Second, "10.10.0.2:50002", other, 5) // by which the first port is free
	syn(6*time.Second, "10.10.0.3:50003", port, 6)
	two, one := 2*time.Second, time.Second
	if got, want := reuseGaps(packets, listener, false), []time.Duration{two, two}; !slices.Equal(got, want) {
		t.Errorf("another's ports: %v, want %v", got, want)
	}
	if got, want := reuseGaps(packets, listener, true), []time.Duration{one, one, two, two}; !slices.Equal(got, want) {
		t.Errorf("its own ports: %v, want %v", got, want)
	}
}
