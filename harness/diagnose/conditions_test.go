package diagnose

import (
	"net/netip"
	"slices"
	"testing"

	"twlab/harness/recording"
)

func TestPortsOf(t *testing.T) {
	for _, c := range []struct {
		portRange, reserved string
		want                int
		wrong               bool
	}{
		{"40000\t40003", "", 4, false},
		{"40000\t40003", "40002", 3, false},
		{"40000\t40003", "80,40001-40003,50000-50001", 1, false},
		{"40000\t40003", "1-65535,1-65535", 0, false},
		{"40003\t40000", "1-65535", 0, false},
		{"1\t70000", "", 65535, false},
		{"", "", 0, true},
		{"40000", "", 0, true},
		{"40000\t40003", "many", 0, true},
	} {
		node := recording.Node{Settings: map[string]recording.Setting{
			recording.PortRange: {Value: c.portRange}, recording.ReservedPorts: {Value: c.reserved},
		}}
		got, err := portsOf(node)
		if got.size() != c.want || members(got) != c.want || (err != nil) != c.wrong {
			t.Errorf("%+v: %d ports, of which it has %d, %v", c, got.size(), members(got), err)
		}
	}
}

// members is how many of all ports a set has.
func members(of ports) (n int) {
	for p := range 1 << 16 {
		if of.has(uint16(p)) { //nolint:gosec // within its limits
			n++
		}
	}
	return n
}

func TestSourcePorts(t *testing.T) {
	for configuration, want := range map[string]int{
		"":                                0,
		"\tserver server0 10.30.0.2:80\n": 0,
		"\tserver s 10.0.0.2:80 source 10.0.0.1:50000-50003\n\tserver t 10.0.0.3:80 source 10.0.0.1:50000-50003\n": 4,
		"\tserver s [fd00::2]:80 check source [fd00::1]:1-2\n":                                                     2,
		"\tserver s 10.0.0.2:80 source 10.0.0.1:5-99999\n":                                                         0,
	} {
		got, told := sourcePorts(configuration)
		if got.size() != want || members(got) != want || told != (want > 0) {
			t.Errorf("%q: %d ports, of which it has %d, want %d; told: %t", configuration, got.size(), members(got), want, told)
		}
	}
}

func TestTakes(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	listener := func(at netip.Addr, only bool) recording.Socket {
		return recording.Socket{Local: netip.AddrPortFrom(at, 80), V6: at.Is6(), V6Only: only}
	}
	for _, c := range []struct {
		by        recording.Socket
		four, six bool
	}{
		{listener(netip.IPv4Unspecified(), false), true, false},
		{listener(netip.IPv6Unspecified(), false), true, true},
		{listener(netip.IPv6Unspecified(), true), false, true},
		{listener(four, false), true, false},
		{listener(six, false), false, true},
		{listener(netip.MustParseAddr("10.0.0.2"), false), false, false},
	} {
		if takes(c.by, four) != c.four || takes(c.by, six) != c.six {
			t.Errorf("%v, only IPv6 %v: takes %v %v and %v %v", c.by.Local, c.by.V6Only, four, takes(c.by, four), six, takes(c.by, six))
		}
	}
}

// What three-valued conditions make of each other.
func TestAllAndEither(t *testing.T) {
	is := func(x Truth) Condition { return func(*Case) Fact { return Fact{Is: x} } }
	for _, c := range []struct{ a, b, all, either Truth }{
		{True, True, True, True},
		{True, Unknown, Unknown, True},
		{True, False, False, True},
		{Unknown, Unknown, Unknown, Unknown},
		{Unknown, False, False, Unknown},
		{False, False, False, False},
	} {
		for _, pair := range [][2]Truth{{c.a, c.b}, {c.b, c.a}} {
			if got := all(is(pair[0]), is(pair[1]))(nil).Is; got != c.all {
				t.Errorf("all(%v, %v) is %v, want %v", pair[0], pair[1], got, c.all)
			}
			if got := either(is(pair[0]), is(pair[1]))(nil).Is; got != c.either {
				t.Errorf("either(%v, %v) is %v, want %v", pair[0], pair[1], got, c.either)
			}
		}
	}
}

// A recording that lacks what it should have is diagnosed all the same, and proves no other
// cause.
func TestRecordingsWithHoles(t *testing.T) {
	for name, whole := range kept(t) {
		for what, cut := range map[string]func(r *recording.Recording){
			"no nodes":             func(r *recording.Recording) { r.Nodes = nil },
			"no states":            func(r *recording.Recording) { r.Before, r.After = nil, nil; forgetStates(r) },
			"no state at the end":  func(r *recording.Recording) { r.After = nil; forgetStates(r) },
			"no packets":           func(r *recording.Recording) { r.Packets = nil },
			"packets turned round": func(r *recording.Recording) { r.Packets = slices.Clone(r.Packets); slices.Reverse(r.Packets) },
			"only the last step":   func(r *recording.Recording) { r.Steps = r.Steps[len(r.Steps)-1:] },
		} {
			r := whole
			cut(&r)
			for _, d := range Recording(&r) {
				if d.Status == Proved && !wanted(whole)[d.Cause()] {
					t.Errorf("%s, %s: step %d: %s", name, what, d.Step, d.Short())
				}
			}
		}
	}
}

func forgetStates(r *recording.Recording) {
	r.Steps = slices.Clone(r.Steps)
	for i := range r.Steps {
		r.Steps[i].After = nil
	}
}

// The ACK that ends a handshake is no keep-alive probe, and after an answer none counts.
func TestOnlyProbes(t *testing.T) {
	sent := func(seq uint32, flags string) Life {
		return Life{Seen: []recording.Packet{{Point: "a", Out: true, Flags: flags, Seq: seq}}, Node: "b", End: Delivered}
	}
	answer := Life{Seen: []recording.Packet{{Point: "b", Out: true, Flags: ".", Seq: 7, Ack: 11}}, Node: "a", End: Delivered}
	for name, c := range map[string]struct {
		lives []Life
		is    Truth
		says  string
	}{
		"none":               {[]Life{sent(10, "S"), sent(11, ".")}, False, "probes that a sent last, without an answer: 0"},
		"two, and the end":   {[]Life{sent(10, "S"), sent(11, "."), sent(10, "."), sent(10, "."), sent(11, "R.")}, True, "probes that a sent last, without an answer: 2"},
		"one after the last": {[]Life{sent(10, "S"), sent(11, "."), sent(10, "."), answer, sent(10, ".")}, True, "probes that a sent last, without an answer: 1"},
	} {
		f := onlyProbes(&Case{r: &recording.Recording{}, attempt: recording.Attempt{Node: "a"}, lives: c.lives})
		if f.Is != c.is || f.Says != c.says {
			t.Errorf("%s: %v, %q; want %v, %q", name, f.Is, f.Says, c.is, c.says)
		}
	}
}

// One is not written as many.
func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0 SYNs", 1: "1 SYN", 2: "2 SYNs"} {
		if got := number(n, "SYN"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if one, two := every(1), every(2); one != "the only SYN" || two != "all 2 SYNs" {
		t.Errorf("%q and %q", one, two)
	}
}
