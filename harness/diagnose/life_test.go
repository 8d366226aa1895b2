package diagnose

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"twlab/harness/recording"
)

// segments are data on the link from a to b: what left a, and what came into b, as beginnings
// and ends.
func segments(out, in [][2]uint32) *recording.Recording {
	src, dst := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:80")
	r := &recording.Recording{Nodes: map[string]recording.Node{"b": {Addresses: []netip.Addr{dst.Addr()}}}}
	add := func(point string, out bool, of [][2]uint32) {
		for _, s := range of {
			at := time.Unix(0, int64(len(r.Packets)))
			r.Packets = append(r.Packets, recording.Packet{Point: point, Out: out, Time: at, Src: src, Dst: dst, Flags: ".", Seq: s[0], Payload: int(s[1] - s[0])})
		}
	}
	add("a", true, out)
	add("b", false, in)
	return r
}

// A segment that offloading put together or split is the one that was sent.
func TestJoined(t *testing.T) {
	const top = 0xffffff00 // numbers wrap around
	for name, c := range map[string]struct {
		out, in [][2]uint32
		ends    []End
	}{
		"as it was":          {[][2]uint32{{1, 101}}, [][2]uint32{{1, 101}}, []End{Delivered}},
		"lost":               {[][2]uint32{{1, 101}}, nil, []End{OnTheWay}},
		"put together":       {[][2]uint32{{1, 101}, {101, 201}}, [][2]uint32{{1, 201}}, []End{Delivered, Delivered}},
		"put together later": {[][2]uint32{{1, 101}, {101, 201}, {201, 301}}, [][2]uint32{{101, 301}}, []End{OnTheWay, Delivered, Delivered}},
		"not all of it":      {[][2]uint32{{1, 101}}, [][2]uint32{{1, 201}}, []End{OnTheWay, Delivered}},
		"split":              {[][2]uint32{{1, 201}}, [][2]uint32{{1, 101}, {101, 201}}, []End{Delivered}},
		"split, one lost":    {[][2]uint32{{1, 301}}, [][2]uint32{{1, 101}, {201, 301}}, []End{OnTheWay, Delivered, Delivered}},
		"around":             {[][2]uint32{{top, top + 200}, {top + 200, 144}}, [][2]uint32{{top, 144}}, []End{Delivered, Delivered}},
	} {
		var ends []End
		r := segments(c.out, c.in)
		for _, l := range Sent(r, Lives(r)) {
			ends = append(ends, l.End)
		}
		if !slices.Equal(ends, c.ends) {
			t.Errorf("%s: %v, want %v", name, ends, c.ends)
		}
	}
}

// Packets that are alike are told apart by their order, and by the time between repetitions.
func TestLivesOfPacketsThatAreAlike(t *testing.T) {
	type sighting struct {
		point string
		after time.Duration
	}
	for name, c := range map[string]struct {
		seen []sighting
		ends []End
	}{
		"three at once": {
			[]sighting{{"a", 0}, {"a", 0}, {"a", 0}, {"b", 0}, {"b", 0}, {"b", 0}},
			[]End{Delivered, Delivered, Delivered},
		},
		"one lost, and sent again": {[]sighting{{"a", 0}, {"a", time.Second}, {"b", time.Second}}, []End{OnTheWay, Delivered}},
		"slow":                     {[]sighting{{"a", 0}, {"b", time.Second}}, []End{Delivered}},
	} {
		r := segments(nil, nil)
		for _, s := range c.seen {
			r.Packets = append(r.Packets, recording.Packet{
				Point: s.point, Out: s.point == "a", Time: time.Unix(0, 0).Add(s.after), Flags: "R", Seq: 7,
				Src: netip.MustParseAddrPort("10.0.0.1:1"), Dst: netip.MustParseAddrPort("10.0.0.2:80"),
			})
		}
		var ends []End
		for _, l := range Lives(r) {
			ends = append(ends, l.End)
		}
		if !slices.Equal(ends, c.ends) {
			t.Errorf("%s: %v, want %v", name, ends, c.ends)
		}
	}
}

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
