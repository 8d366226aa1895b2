package diagnose

import (
	"net/netip"
	"testing"
	"time"

	"twlab/harness/recording"
)

// Segments that an interface puts together are followed through it, and one that is lost is not
// taken for arrived.
func TestLivesOfSegmentsThatArePutTogether(t *testing.T) {
	client, server := netip.MustParseAddrPort("10.0.0.1:50000"), netip.MustParseAddrPort("10.0.0.2:80")
	began := time.Unix(1_700_000_000, 0)
	r := &recording.Recording{Nodes: map[string]recording.Node{"client": {}, "gateway": {}, "server": {Addresses: []netip.Addr{server.Addr()}}}}
	see := func(point, face string, out bool, seq uint32, payload int) {
		r.Packets = append(r.Packets, recording.Packet{
			Point: point, Interface: face, Out: out, Time: began.Add(time.Duration(len(r.Packets))), Src: client, Dst: server,
			Flags: ".", Seq: seq, Ack: 1, Payload: payload,
		})
	}
	for _, seq := range []uint32{100, 200, 300} {
		see("client", "eth0", true, seq, 100)
	}
	see("gateway", "in", false, 100, 200) // of the third nothing was seen here
	see("gateway", "out", true, 100, 100)
	see("gateway", "out", true, 200, 100)
	see("server", "eth0", false, 100, 200)
	lives := Lives(r)
	if len(lives) != 3 {
		t.Fatalf("%d lives, want 3", len(lives))
	}
	for i, want := range []struct {
		seen int
		end  End
	}{{4, Delivered}, {4, Delivered}, {1, OnTheWay}} {
		if l := lives[i]; len(l.Seen) != want.seen || l.End != want.end {
			t.Errorf("segment %d was seen %d times and %s, want %+v", i, len(l.Seen), l.End, want)
		}
	}
}
