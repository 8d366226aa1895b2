package foreign

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/capture"
	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

var began = time.Unix(1_700_000_000, 0).UTC()

// segment is one between a client and a server, some milliseconds after the beginning.
func segment(ms float64, port uint16, back bool, flags string, seq, ack uint32, payload int) recording.Packet {
	src, dst := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port), netip.MustParseAddrPort("10.0.0.2:80")
	if back {
		src, dst = dst, src
	}
	return recording.Packet{
		Time: began.Add(time.Duration(ms * float64(time.Millisecond))), Src: src, Dst: dst, Flags: flags, Seq: seq, Ack: ack, Payload: payload,
		ID: uint16(seq), Timestamp: &recording.Timestamp{Value: uint32(ms) + 1, Echo: 1},
	}
}

// moved is packets some time later, as the next node sees them.
func moved(packets []recording.Packet, forward, back time.Duration) (all []recording.Packet) {
	for _, p := range packets {
		if p.Dst.Port() == 80 {
			p.Time = p.Time.Add(forward)
		} else {
			p.Time = p.Time.Add(back)
		}
		all = append(all, p)
	}
	return all
}

func handshake(port uint16, isn uint32) []recording.Packet {
	return []recording.Packet{
		segment(0, port, false, "S", isn, 0, 0), segment(10, port, true, "S.", 900, isn+1, 0), segment(11, port, false, ".", isn+1, 901, 0),
	}
}

func read(t *testing.T, o Options, files ...Source) *Result {
	t.Helper()
	result, err := Read(t.Context(), files, o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// The offset of a clock lies in its bound, whatever the ways take.
func TestClocks(t *testing.T) {
	near := handshake(1000, 1)
	for _, c := range []struct{ ahead, there, back time.Duration }{
		{0, time.Millisecond, time.Millisecond},
		{-time.Hour, 4 * time.Millisecond, time.Millisecond},
		{24*time.Hour + 17*time.Millisecond, 0, 9 * time.Millisecond},
	} {
		far := moved(near, c.there+c.ahead, -c.back+c.ahead)
		result := read(t, Options{}, Source{"client", file(t, "a", near, 0, 96)}, Source{"server", file(t, "b", far, 0, 96)})
		got := result.Clocks[0]
		if wrong := (got.Offset - c.ahead).Abs(); wrong > got.Bound || got.Bound > c.there+c.back || got.Matched != 3 || got.Unsteady {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	// Of several clocks that it can be compared with, one that gives a bound counts.
	far3 := moved(near, 2*time.Millisecond+time.Hour, -2*time.Millisecond+time.Hour)
	three := read(t, Options{}, Source{"client", file(t, "a", near, 0, 96)}, Source{"box", file(t, "c", near[:1], 0, 96)}, Source{"server", file(t, "b", far3, 0, 96)})
	if got := three.Clocks[1]; got.Of != "client" || got.Bound < 0 || (got.Offset-time.Hour).Abs() > got.Bound {
		t.Errorf("%+v, want one of the client with a bound", got)
	}
	// What both have seen of one direction alone gives no bound.
	result := read(t, Options{}, Source{"client", file(t, "a", near, 0, 96)}, Source{"server", file(t, "b", near[:1], 0, 96)})
	if got := result.Clocks[0]; got.Bound >= 0 {
		t.Errorf("%+v, want no bound", got)
	}
	// A clock that is set between two packets fits no offset.
	far := moved(near, time.Millisecond, -time.Millisecond)
	far[2].Time = far[2].Time.Add(-time.Second)
	result = read(t, Options{}, Source{"client", file(t, "a", near, 0, 96)}, Source{"server", file(t, "b", far, 0, 96)})
	if got := result.Clocks[0]; !got.Unsteady {
		t.Errorf("%+v, want an unsteady one", got)
	}
	// Packets that only one has seen say nothing.
	other := read(t, Options{}, Source{"client", file(t, "a", near, 0, 96)}, Source{"server", file(t, "b", handshake(2000, 77), 0, 96)})
	if len(other.Clocks) != 0 {
		t.Errorf("%+v, want no clock", other.Clocks)
	}
}

// What is said of each kind of death, and of what is none.
func TestAttempts(t *testing.T) {
	syn := segment(0, 1000, false, "S", 1, 0, 0)
	again := segment(1000, 1000, false, "S", 1, 0, 0)
	data := func(ms float64) recording.Packet { return segment(ms, 1000, false, "P.", 2, 901, 100) }
	fine := handshake(1000, 1)
	join := func(a []recording.Packet, more ...recording.Packet) []recording.Packet {
		return append(slices.Clone(a), more...)
	}
	for name, c := range map[string]struct {
		packets []recording.Packet
		says    string
	}{
		"fine":                  {join(fine, segment(20, 1000, false, "F.", 2, 901, 0), segment(21, 1000, true, "F.", 901, 3, 0)), "1 seen, 1 fine"},
		"data in the SYN":       {[]recording.Packet{segment(0, 1000, false, "S", 1, 0, 10), segment(1, 1000, true, "S.", 900, 12, 0), segment(2, 1000, false, ".", 12, 901, 0)}, "1 seen, 1 fine"},
		"no answer":             {[]recording.Packet{syn, again}, "1 seen; failed Unanswered, 2 SYNs"},
		"no answer yet":         {[]recording.Packet{syn}, "1 seen, 1 unfinished"},
		"refused":               {[]recording.Packet{syn, segment(1, 1000, true, "R.", 0, 2, 0)}, "1 seen; failed Refused, 1 SYNs"},
		"late":                  {join([]recording.Packet{segment(-1000, 1000, false, "S", 1, 0, 0)}, fine...), "1 seen; late Connected, 2 SYNs"},
		"reset":                 {join(fine, data(20), segment(21, 1000, true, "R", 901, 0, 0)), "1 seen; broken Connected, 1 SYNs"},
		"reset after its end":   {join(fine, segment(20, 1000, false, "F.", 2, 901, 0), segment(21, 1000, true, "R", 901, 0, 0)), "1 seen, 1 fine"},
		"stalled":               {join(fine, data(20), data(220), data(620), data(1420)), "1 seen; broken Connected, 1 SYNs"},
		"acknowledged in time":  {join(fine, data(20), data(220), data(620), data(1420), segment(1430, 1000, true, ".", 901, 102, 0)), "1 seen, 1 fine"},
		"without its beginning": {[]recording.Packet{data(20), segment(21, 1000, true, "R", 901, 0, 0)}, "1 seen; broken , 0 SYNs"},
		"and nothing wrong":     {[]recording.Packet{data(20), segment(21, 1000, true, ".", 901, 102, 0)}, "1 seen, 1 unbegun"},
		"the same ends again":   {join([]recording.Packet{syn, segment(1, 1000, true, "R.", 0, 2, 0)}, segment(5, 1000, false, "S", 50, 0, 0), segment(6, 1000, true, "R.", 0, 51, 0)), "2 seen; failed Refused, 1 SYNs; failed Refused, 1 SYNs"},
	} {
		result := read(t, Options{}, Source{"client", file(t, "a", c.packets, 0, 96)})
		says := fmt.Sprintf("%d seen", result.Seen)
		for word, n := range map[string]int{"fine": result.Fine, "unbegun": result.Unbegun, "unfinished": result.Unfinished} {
			if n > 0 {
				says += fmt.Sprintf(", %d %s", n, word)
			}
		}
		for _, one := range result.Connections {
			d := one.Diagnose()
			says += fmt.Sprintf("; %s %s, %d SYNs", d.Symptom, d.Attempt.Outcome, d.Attempt.SYNs)
		}
		if says != c.says {
			t.Errorf("%s: %s, want %s", name, says, c.says)
		}
	}
}

// Counters of a node make facts of what captures leave open.
func TestCountersDecide(t *testing.T) {
	packets := []recording.Packet{segment(0, 1000, false, "S", 1, 0, 0), segment(1000, 1000, false, "S", 1, 0, 0)}
	files := []Source{{"client", file(t, "a", packets, 0, 96)}, {"server", file(t, "b", moved(packets, time.Millisecond, 0), 0, 96)}}
	before := map[string]uint64{"TcpExt.ListenOverflows": 7, "TcpExt.TCPReqQFullDrop": 0}
	for _, rose := range []uint64{0, 2} {
		after := map[string]uint64{"TcpExt.ListenOverflows": 7 + rose, "TcpExt.TCPReqQFullDrop": 0}
		result := read(t, Options{Evidence: map[string]Tables{"server": {Before: before, After: after}}}, files...)
		d := result.Connections[0].Diagnose()
		if full := rose == 2; full != fits(d, "accept-queue-full") || full != (d.Short() == "accept-queue-full (consistent)") {
			t.Errorf("risen by %d: %s", rose, d.Short())
		}
	}
	// A counter that is not in the tables is unknown.
	result := read(t, Options{Evidence: map[string]Tables{"server": {Before: map[string]uint64{"Tcp.InSegs": 1}, After: map[string]uint64{"Tcp.InSegs": 9}}}}, files...)
	d := result.Connections[0].Diagnose()
	if !fits(d, "accept-queue-full") || d.Cause() != "" {
		t.Errorf("%s, want accept-queue-full among others", d.Short())
	}
	if p, found := d.Missing(); !found || p.Node != "server" {
		t.Errorf("%+v would decide, want something of server", p)
	}
	if p, _ := read(t, Options{}, files[0]).Connections[0].Diagnose().Missing(); p.Kind != recording.OfPackets || p.Node != "behind client" {
		t.Errorf("%+v would decide, want packets behind the client", p)
	}
}

// Of more packets than are kept, those of connections that died are.
func TestLimits(t *testing.T) {
	var packets []recording.Packet
	for i := range 200 {
		packets = append(packets, moved(handshake(uint16(2000+i), uint32(1000*i+1)), time.Duration(i)*time.Millisecond, time.Duration(i)*time.Millisecond)...)
	}
	packets = append(packets, segment(500, 1000, false, "S", 7, 0, 0), segment(1500, 1000, false, "S", 7, 0, 0))
	path := file(t, "a", packets, 0, 96)
	result := read(t, Options{MostPackets: 100}, Source{"client", path})
	if len(result.Connections) != 1 || result.Left != 0 || result.Fine != 200 || result.Seen != 201 {
		t.Errorf("%d died, %d left, %d of %d fine", len(result.Connections), result.Left, result.Fine, result.Seen)
	}
	if result := read(t, Options{MostPackets: 1}, Source{"client", path}); len(result.Connections) != 0 || result.Left != 1 {
		t.Errorf("%d died, %d left, want one that is left", len(result.Connections), result.Left)
	}
	if result := read(t, Options{MostFlows: 10}, Source{"client", path}); result.Left != 192 || result.Fine != 10 {
		t.Errorf("%d fine, %d left, want 10, and 192 SYNs", result.Fine, result.Left)
	}
	// Those that were closed make room for others.
	var closed []recording.Packet
	for i := range 200 {
		port, isn := uint16(2000+i), uint32(1000*i+1)
		one := append(handshake(port, isn), segment(12, port, false, "F.", isn+1, 901, 0), segment(13, port, true, "F.", 901, isn+2, 0))
		closed = append(closed, moved(one, time.Duration(i)*time.Millisecond, time.Duration(i)*time.Millisecond)...)
	}
	result = read(t, Options{MostFlows: 10, MostPackets: 10}, Source{"client", file(t, "c", append(closed, segment(900, 1000, false, "S", 7, 0, 0), segment(1900, 1000, false, "S", 7, 0, 0)), 0, 96)})
	if result.Left != 0 || result.Seen != 201 || result.Fine != 200 || len(result.Connections) != 1 {
		t.Errorf("%d died, %d of %d fine, %d left", len(result.Connections), result.Fine, result.Seen, result.Left)
	}
	// Of one connection its beginning and its end are kept.
	long := handshake(1000, 1)
	for i := range uint32(3 * mostOfOne) {
		long = append(long, segment(20+float64(i), 1000, false, ".", 2+i, 901, 1))
	}
	long = append(long, segment(20000, 1000, true, "R", 901, 0, 0))
	result = read(t, Options{}, Source{"client", file(t, "b", long, 0, 96)})
	if len(result.Connections) != 1 || !result.Connections[0].Shortened || len(result.Connections[0].Recording.Packets) > mostOfOne {
		t.Fatalf("%d connections", len(result.Connections))
	}
	if d := result.Connections[0].Diagnose(); d.Symptom != diagnose.Broken {
		t.Errorf("%s", d.Symptom)
	}
}

func TestWrongFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path string
		is   error
		says string
	}{
		{filepath.Join(dir, "none"), os.ErrNotExist, "none"},
		{dir, nil, "not a pipe or a directory"},
		{write("text", "hello, this is no capture"), capture.ErrForeign, "68 65 6c 6c"},
		{file(t, "empty", nil, 0, 96), ErrNoTCP, "no packets"},
		{file(t, "short", handshake(1000, 1), 0, 40), ErrNoTCP, "capture with -s 128"},
	} {
		_, err := Read(t.Context(), []Source{{"client", c.path}}, Options{})
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v with %q", c.path, err, c.is, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var many []recording.Packet
	for i := range uint32(1 << 16) {
		many = append(many, segment(0, 1000, false, ".", i, 1, 0))
	}
	if _, err := Read(ctx, []Source{{"client", file(t, "many", many, 0, 96)}}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

// A box that was captured on both sides, in one file or in two, shows what came in and did not
// leave; captured on one side it does not.
func TestBoxes(t *testing.T) {
	passed := handshake(1000, 1)
	inside := append(slices.Clone(passed), segment(20, 1001, false, "S", 50, 0, 0), segment(1020, 1001, false, "S", 50, 0, 0))
	outside := moved(passed, time.Millisecond, -time.Millisecond)
	for i := range outside { // behind the box the client has its address
		if outside[i].Dst.Port() == 80 {
			outside[i].Src = netip.MustParseAddrPort("10.9.9.9:5000")
		} else {
			outside[i].Dst = netip.MustParseAddrPort("10.9.9.9:5000")
		}
	}
	both := slices.SortedFunc(slices.Values(slices.Concat(inside, outside)), func(a, b recording.Packet) int { return a.Time.Compare(b.Time) })
	client := Source{"client", file(t, "c", moved(inside, -time.Millisecond, time.Millisecond), 0, 96)}
	for name, c := range map[string]struct {
		files []Source
		says  string
	}{
		"two files": {[]Source{client, {"gateway", file(t, "a", inside, 0, 96)}, {"gateway", file(t, "b", outside, 0, 96)}}, "came into gateway, and did not leave it"},
		"one file":  {[]Source{client, {"gateway", file(t, "a", both, 0, 96)}}, "came into gateway, and did not leave it"},
		"one side":  {[]Source{client, {"gateway", file(t, "a", inside, 0, 96)}}, "came into gateway, and whether it left is not recorded"},
		"no box":    {[]Source{client}, "left client for where nothing was recorded"},
	} {
		result := read(t, Options{}, c.files...)
		if len(result.Connections) != 1 {
			t.Fatalf("%s: %d died", name, len(result.Connections))
		}
		d := result.Connections[0].Diagnose()
		if got := strings.Join(d.Account(), "|"); got != "2 of 2 SYNs without a SYN-ACK: "+c.says {
			t.Errorf("%s: %s, want %s", name, got, c.says)
		}
	}
}
