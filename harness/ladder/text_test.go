package ladder

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// long is the recording of a SYN that crosses some nodes, of which each translates it.
func long(nodes int, name string) (recording.Recording, diagnose.Diagnosis) {
	began := time.Unix(1_700_000_000, 0).UTC()
	r := recording.Recording{Began: began, Took: time.Second, Nodes: map[string]recording.Node{}, Steps: []recording.Step{{Number: 1, Verb: "connect"}}}
	to := netip.MustParseAddrPort("10.0.1.1:80")
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 40000)
	}
	for i := range nodes {
		node := fmt.Sprintf("%s%d", name, i)
		r.Nodes[node] = recording.Node{Addresses: []netip.Addr{from(i).Addr()}}
		if i == nodes-1 {
			r.Nodes[node] = recording.Node{Addresses: []netip.Addr{to.Addr()}}
		}
		if i > 0 {
			r.Packets = append(r.Packets, recording.Packet{Point: node, Interface: "left", Time: began, Src: from(i - 1), Dst: to, Seq: 1, Flags: "S"})
		}
		if i < nodes-1 {
			r.Packets = append(r.Packets, recording.Packet{Point: node, Interface: "right", Time: began, Out: true, Src: from(i), Dst: to, Seq: 1, Flags: "S"})
		}
	}
	r.Steps[0].Result.Attempts = []recording.Attempt{{Node: name + "0", Outcome: "TimedOut", Errno: "ETIMEDOUT", Took: time.Second, Local: from(0), Remote: to, SYNs: 1}}
	return r, diagnose.Of(&r, 0)[0]
}

// No line is longer than a terminal, whatever the number of nodes and the length of their names.
func TestLinesAreNarrow(t *testing.T) {
	for nodes := 1; nodes < 40; nodes++ {
		for _, name := range []string{"n", "客户端", strings.Repeat("long", 20)} {
			r, d := long(nodes, name)
			for _, line := range New(&r, d).Text(nodes%2 == 0) {
				if n := utf8.RuneCountInString(line); n > Width {
					t.Fatalf("%d nodes: %d columns: %s", nodes, n, line)
				}
			}
		}
	}
}

// drawn are the lines of a ladder in ASCII, without its title.
func drawn(l Ladder) []string {
	lines := l.Text(true)
	return lines[slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, "  time ") }):]
}

func TestASCII(t *testing.T) {
	r, d := long(4, "n")
	got := strings.Join(drawn(New(&r, d)), "\n")
	want := `  time        n0            n1            n2            n3
  0.000 1      |- SYN ------>~------------>~------------>x  no answer
               |             |             |             |  now n1:40000 > n3:80, by n1
               |             |             |             |  now n2:40000 > n3:80, by n2
               . . . . . . . . . . . . . . . . . . . . . .  1.00 s: no answer
  1.000        *             |             |             |  connect: ETIMEDOUT
  numbers are relative to the initial one: n0's is 1`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A packet that is translated twice has each of its ends in a row of its own.
func TestEachTranslation(t *testing.T) {
	r, d := long(4, "n")
	var said []string
	for _, row := range New(&r, d).Rows {
		if row.Kind == Tuple {
			said = append(said, row.Text)
		}
	}
	if want := []string{"now n1:40000 > n3:80, by n1", "now n2:40000 > n3:80, by n2"}; fmt.Sprint(said) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", said, want)
	}
}

// What one tap alone has seen ends between two lanes; with a kernel of its own behind the link,
// nobody knows.
func TestEnds(t *testing.T) {
	r, _ := long(2, "n")
	r.Packets = r.Packets[:1]
	for guest, want := range map[bool]End{false: Lost, true: Unseen} {
		n := r.Nodes["n1"]
		n.Guest = guest
		r.Nodes["n1"] = n
		l := New(&r, diagnose.Of(&r, 0)[0])
		if got := l.Rows[0].Arrow.End; got != want {
			t.Errorf("guest %v: %s, want %s", guest, got, want)
		}
		if lane := l.Lanes[1]; !lane.Untapped || lane.Node != "n1" {
			t.Errorf("%+v, want n1 without a tap", lane)
		}
	}
}

// A packet that comes back to its sender is drawn to where it turned.
func TestBack(t *testing.T) {
	r, _ := long(3, "n")
	r.Packets = r.Packets[:4]
	back := r.Packets[3]
	back.Point, back.Interface = "n0", "right"
	r.Packets[2].Point, r.Packets[2].Interface = "n1", "left"
	r.Packets = append(r.Packets[:3], back)
	got := drawn(New(&r, diagnose.Of(&r, 0)[0]))[1]
	if want := "  0.000 1      x< SYN -------->~               |  came in, and did not leave"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A packet of which nobody has seen the beginning comes from outside.
func TestOutside(t *testing.T) {
	r, _ := long(3, "n")
	r.Packets = r.Packets[1:] // the first node was not recorded
	l := New(&r, diagnose.Of(&r, 0)[0])
	if want := "  0.000 1      |       ?------>~- SYN -------->x  no answer"; drawn(l)[1] != want {
		t.Errorf("got  %q\nwant %q", drawn(l)[1], want)
	}
	if a := l.Rows[0].Arrow; !a.Outside || a.From != 1 {
		t.Errorf("%+v, want an arrow from outside into the second lane", a)
	}
}
