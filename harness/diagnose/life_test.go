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
		for _, l := range sent(r, Lives(r)) {
			ends = append(ends, l.End)
		}
		if !slices.Equal(ends, c.ends) {
			t.Errorf("%s: %v, want %v", name, ends, c.ends)
		}
	}
}
