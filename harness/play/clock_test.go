//go:build linux

package play_test

import (
	"strings"
	"testing"
	"time"

	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/script"
)

// keep is a connection that stays open, from a port.
func keep(port uint16) script.Connect {
	return script.Connect{From: at("c1", port), To: at("web", 80), Then: script.ThenKeep}
}

// stamped is the last timestamp that the client sent from a port, and when.
func stamped(r recording.Recording, port uint16) (value uint32, when time.Time) {
	for _, p := range r.Packets {
		if p.Point == "c1" && p.Src.Port() == port && p.Timestamp != nil {
			value, when = p.Timestamp.Value, p.Time
		}
	}
	return value, when
}

// A clock that was set beyond or behind another one, which has another offset, is that far from it
// on the wire.
func TestClocksAreCompared(t *testing.T) {
	const lead = 10_000_000 // ms
	for name, set := range map[string]script.Clock{
		"beyond": {Conn: script.Conn{Step: "second"}, Advance: lead * time.Millisecond, Beyond: "first"},
		"behind": {Conn: script.Conn{Step: "second"}, Advance: lead * time.Millisecond, Behind: "first"},
	} {
		t.Run(name, func(t *testing.T) {
			r, text := played(t, direct(
				script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
				script.Step{ID: "first", Do: keep(40000), Expect: []script.Expectation{{Outcome: "Connected"}}},
				script.Step{ID: "second", Do: keep(40001), Expect: []script.Expectation{{Outcome: "Connected"}}},
				script.Step{Do: set},
			))
			if r.Verdict() != recording.AsExpected {
				t.Fatal(text)
			}
			first, then := stamped(r, 40000)
			second, now := stamped(r, 40001)
			want := int64(lead)
			if name == "behind" {
				want = -want
			}
			passed := now.Sub(then).Milliseconds()
			if got := int64(int32(second - first)); got < want+passed-100 || got > want+passed+100 {
				t.Errorf("the second clock is %d ms from the first one, of %d ms before; want %d", got, passed, want)
			}
		})
	}
}

// An expectation of a clock is compared also where one before it is for other kernels.
func TestClocksOfOtherKernelsAreLeftOut(t *testing.T) {
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{ID: "first", Do: keep(40000)},
		script.Step{Do: script.Reset{Conn: script.Conn{Step: "first"}}},
		script.Step{ID: "second", Do: keep(40000), Expect: []script.Expectation{
			{When: script.Condition{At: "c1", Before: "3.0"}, SameClock: "first"},
			{OtherClock: "first"}, // wrong
		}},
	))
	if r.Verdict() != recording.NotAsExpected || strings.Count(text, "NOT EXPECTED") != 1 || !strings.Contains(text, "wanted not that of first") {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

// Two connections that begin with the same sequence number are not taken for each other, and an
// end that nobody sent a SYN for is not waited for without end.
func TestEndsOfConnectionsThatBeginAlike(t *testing.T) {
	one, other := keep(40000), keep(40001)
	one.ISN, other.ISN = 1<<30, 1<<30
	closed := func(port uint16) []script.Expectation {
		return []script.Expectation{{Sockets: []script.SocketCount{{Node: "web", State: "FIN_WAIT2", Remote: at("c1", port), Count: script.Exactly(1)}}}}
	}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{ID: "one", Do: one},
		script.Step{ID: "other", Do: other},
		script.Step{Do: script.Close{Conn: script.Conn{Step: "one", Server: true}}, Expect: closed(40000)},
		script.Step{Do: script.Close{Conn: script.Conn{Step: "other", Server: true}}, Expect: closed(40001)},
	))
	if r.Verdict() != recording.AsExpected {
		t.Error(text)
	}
}

// A connection to the node's own address goes by lo, and has two ends all the same.
func TestEndsOfAConnectionToItself(t *testing.T) {
	self := script.Connect{From: at("c1", 40000), To: at("c1", 80), Then: script.ThenKeep}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "c1", Port: 80, Serve: script.Hold}},
		script.Step{ID: "self", Do: self},
		script.Step{Do: script.Send{Conn: script.Conn{Step: "self", Server: true}, Bytes: 5}},
		script.Step{Do: script.Receive{Conn: script.Conn{Step: "self"}, Bytes: 5}, Expect: []script.Expectation{{Received: exactly(5)}}},
	))
	if r.Verdict() != recording.AsExpected {
		t.Error(text)
	}
}

// Who gives up before the kernel does has no outcome, and leaves no socket.
func TestGivingUp(t *testing.T) {
	never := 0
	gives := script.Connect{From: at("c1", 0), To: at("web", 80), GiveUp: 300 * time.Millisecond}
	began := time.Now()
	r, err := play.Run(t.Context(), direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Accept: &never}},
		script.Step{Do: script.AddRule{Node: "web", Table: "filter", Chain: "INPUT", Spec: "-p tcp --dport 80 -j DROP"}},
		script.Step{Do: gives, Expect: []script.Expectation{{Sockets: []script.SocketCount{{Node: "c1", State: "SYN_SENT", Count: script.Exactly(0)}}}}},
	), nil)
	if err != nil || r.Verdict() != recording.AsExpected || r.Steps[2].Result.Attempts[0].Outcome != "Undecided" {
		t.Errorf("%v, %v, %+v", err, r.Verdict(), r.Steps)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

// What a server does in the middle of a response is what the client sees.
func TestHowResponsesEnd(t *testing.T) {
	for _, c := range []struct {
		name        string
		web         script.Web
		disposition string
	}{
		{"cut", script.Web{Body: 1000, Cut: 500, Last: 1}, "truncated"},
		{"cut by a RST", script.Web{Body: 1000, Cut: 500, Last: 1, End: "reset"}, "broken"},
		{"cut, and nobody counts", script.Web{Body: 1000, Cut: 500, Last: 1, Framing: "close"}, "whole"},
		{"chunks", script.Web{Body: 1000, Framing: "chunked"}, "whole"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask := script.Exchange{From: at("c1", 0), To: at("web", 80), Count: 2, InTurn: true}
			r, text := played(t, direct(
				script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.ServeHTTP, Web: c.web}},
				script.Step{Do: ask, Expect: []script.Expectation{{Dispositions: map[string]script.Bound{c.disposition: script.Exactly(2)}}}},
			))
			if r.Verdict() != recording.AsExpected {
				t.Error(text)
			}
		})
	}
}
