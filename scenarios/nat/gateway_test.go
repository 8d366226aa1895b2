package nat

import (
	"net/netip"
	"testing"

	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
)

func TestBoth(t *testing.T) {
	f := claim.Family{Axes: []claim.Axis{
		{Name: "x", Values: []string{"1", "2", "3"}}, {Name: "y", Values: []string{"1", "2"}},
	}}
	sets := []claim.Cells{
		{}, {{}}, {{"x": {"1", "2"}}}, {{"x": {"2", "3"}}}, {{"x": {"3"}}}, {{"y": {"1"}}},
		{{"x": {"1"}}, {"x": {"3"}, "y": {"2"}}},
	}
	for _, a := range sets {
		for _, b := range sets {
			for _, c := range f.All() {
				if got, want := claim.Both(a, b).Matches(c), a.Matches(c) && b.Matches(c); got != want {
					t.Errorf("%v and %v match %v: %v, want %v", a, b, c.Values, got, want)
				}
			}
		}
	}
	if disjoint := claim.Both(claim.Cells{{"x": {"1"}}}, claim.Cells{{"x": {"2"}}}); len(disjoint) != 0 {
		t.Errorf("sets without a common cell have %v in common", disjoint)
	}
}

func TestPortGivenAndItsOwner(t *testing.T) {
	at := netip.MustParseAddrPort
	earlier, late := at("10.20.0.1:40000"), at("10.10.0.3:41000")
	g := portReuse{from: 41000, outs: []netip.AddrPort{earlier}}
	entry := func(src, as netip.AddrPort) observe.Flow {
		return observe.Flow{Original: observe.Tuple{Src: src}, Reply: observe.Tuple{Dst: as}}
	}
	for _, test := range []struct {
		name        string
		syns        []observe.SYN
		flows       []observe.Flow
		port, owner string
	}{
		{"died", []observe.SYN{{}}, []observe.Flow{entry(at("10.10.0.2:40000"), earlier)}, portNone, "an earlier connection"},
		{"died, and the entry is over", []observe.SYN{{}}, nil, portNone, "nobody"},
		{"given at the second SYN", []observe.SYN{{}, {Way: observe.Way{LeftGateway: true, As: earlier}}},
			[]observe.Flow{entry(late, earlier)}, portSame, "the new connection"},
		{"its own", []observe.SYN{{Way: observe.Way{LeftGateway: true, As: at("10.20.0.1:41000")}}},
			[]observe.Flow{entry(late, at("10.20.0.1:41000"))}, portOwn, "the new connection"},
		{"another", []observe.SYN{{Way: observe.Way{LeftGateway: true, As: at("10.20.0.1:1303")}}},
			[]observe.Flow{entry(at("10.10.0.2:40000"), earlier)}, portNew, "nobody"},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := portReuseSeen{
				outcome: tcp.Result{Local: late}, syns: observe.SYNAccount{SYNs: test.syns}, flows: test.flows,
			}
			if got := g.portGiven(seen.as()); got != test.port {
				t.Errorf("port %q, want %q", got, test.port)
			}
			if got := g.owner(seen); got != test.owner {
				t.Errorf("owner %q, want %q", got, test.owner)
			}
		})
	}
}
