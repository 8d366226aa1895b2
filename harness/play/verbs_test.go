//go:build linux

package play_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// played runs a scenario and returns its text.
func played(t *testing.T, s script.Scenario) (recording.Recording, string) {
	t.Helper()
	r, err := play.Run(t.Context(), s, play.ByRelease)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := report.Text(&text, r); err != nil {
		t.Fatal(err)
	}
	return r, text.String()
}

func exactly(n int64) *script.Bound {
	b := script.Exactly(n)
	return &b
}

func TestALoad(t *testing.T) {
	load := script.Load{From: at("c1", 0), To: at("web", 80), Rate: 50, For: time.Second}
	expect := func(connected, refused, syns int64) []script.Expectation {
		return []script.Expectation{{
			Outcomes: map[string]script.Bound{"Connected": script.Exactly(connected), "Refused": script.Exactly(refused)},
			SYNs:     exactly(syns), Late: exactly(0),
		}}
	}
	r, text := played(t, direct(
		script.Step{Do: load, Expect: expect(0, 50, 50)},
		script.Step{Do: script.Listen{Node: "web", Port: 80}, ID: "web"},
		script.Step{Do: load, Expect: expect(50, 0, 50)},
		script.Step{Do: script.Close{Conn: script.Conn{Step: "web"}}},
		script.Step{Do: load, Expect: expect(50, 0, 50)}, // wrong
	))
	if r.Verdict() != recording.NotAsExpected || strings.Count(text, "NOT EXPECTED") != 2 ||
		!strings.Contains(text, "outcome Refused: wanted 0, seen 50") {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

func TestALinkIsImpaired(t *testing.T) {
	connect := script.Connect{From: at("c1", 0), To: at("web", 80)}
	impair := func(loss float64) script.Step {
		return script.Step{Do: script.Impair{A: "c1", B: "web", From: "c1", Sends: topo.Impairment{Loss: loss}}}
	}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80}},
		impair(100),
		script.Step{Do: connect, Expect: []script.Expectation{{Outcome: "TimedOut"}}},
		impair(0),
		script.Step{Do: connect, Expect: []script.Expectation{{Outcome: "Connected"}}},
	))
	switch r.Verdict() {
	case recording.AsExpected:
	case recording.CannotHere:
		if !strings.Contains(text, "sch_netem") {
			t.Errorf("it does not say which module is missing:\n%s", text)
		}
	default:
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

func TestANetworkThatThisKernelCannotHave(t *testing.T) {
	s := direct(script.Step{Do: script.Sleep{For: time.Millisecond}, Expect: []script.Expectation{{
		Sockets: []script.SocketCount{{Node: "web", Count: script.Exactly(0)}},
	}}})
	s.Network.Sysctls = topo.OnNode("c1", "net.ipv4.tcp_tw_recycle=1")
	if r, text := played(t, s); r.Verdict() != recording.CannotHere || !strings.Contains(text, "4.12") {
		t.Errorf("%v\n%s\nwant the release that removed it", r.Verdict(), text)
	}
}

func TestMultipathTCPFallsBack(t *testing.T) {
	connect := func(to uint16, mptcp bool) script.Connect {
		return script.Connect{From: at("c1", 0), To: at("web", to), Options: script.Options{MPTCP: mptcp}}
	}
	fallback := func(n int64) []script.Expectation {
		return []script.Expectation{{Outcome: "Connected", Counters: map[string]map[string]script.Bound{
			"c1": {"MPTcpExt.MPCapableFallbackSYNACK": script.Exactly(n)},
		}}}
	}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80}},
		script.Step{Do: script.Listen{Node: "web", Port: 81, MPTCP: true}},
		script.Step{Do: connect(80, true), Expect: fallback(1)},
		script.Step{Do: connect(81, true), Expect: fallback(0)},
		script.Step{Do: connect(81, false), Expect: fallback(0)},
	))
	if v := r.Verdict(); v != recording.AsExpected && v != recording.CannotHere {
		t.Errorf("%v\n%s", v, text)
	}
	t.Log("\n" + text)
}

// Exchanges on several connections, and attempts one after the other.
func TestSeveralAtOnceAndInTurn(t *testing.T) {
	whole := []script.Expectation{{
		Outcomes:     map[string]script.Bound{"Connected": script.Exactly(3)},
		Dispositions: map[string]script.Bound{"whole": script.Exactly(3)},
	}}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.ServeHTTP}},
		script.Step{ID: "all", Do: script.Connect{From: at("c1", 0), To: at("web", 80), Count: 3, InTurn: true, Then: script.ThenKeep}},
		script.Step{Do: script.Exchange{Conn: "all", Then: script.ThenKeep}, Expect: whole},
		script.Step{Do: script.Exchange{Conn: "all"}, Expect: whole},
		script.Step{Do: script.Exchange{From: at("c1", 0), To: at("web", 80), Count: 3}, Expect: whole},
		// One port has one connection at a time.
		script.Step{Do: script.Connect{From: at("c1", 50000), To: at("web", 80), Count: 2, InTurn: true, Then: script.ThenReset},
			Expect: []script.Expectation{{Outcome: "Connected"}}},
	))
	if r.Verdict() != recording.AsExpected {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

// A send or a receive says which connection it was on, and whether it waited in vain.
func TestWhatASendWasOn(t *testing.T) {
	conn, server := script.Conn{Step: "user"}, script.Conn{Step: "user", Server: true}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{Do: script.Connect{From: at("c1", 0), To: at("web", 80), Then: script.ThenKeep}, ID: "user"},
		script.Step{Do: script.Send{Conn: conn, Bytes: 5}},
		script.Step{Do: script.Receive{Conn: server, Bytes: 5}},
		script.Step{Do: script.Receive{Conn: conn, Bytes: 5, Within: 100 * time.Millisecond}, Expect: []script.Expectation{{Cause: "peer-silent"}}},
	))
	made := r.Steps[1].Result.Attempts[0]
	on := recording.On{Node: "c1", Local: made.Local, Remote: made.Remote}
	atServer, waited := on, on
	atServer.AtServer, waited.Waited = true, true
	for i, want := range map[int]recording.On{2: on, 3: atServer, 4: waited} {
		if got := r.Steps[i].Result.On; got == nil || *got != want {
			t.Errorf("step %d was on %+v, want %+v", i+1, got, want)
		}
	}
	if r.Verdict() != recording.AsExpected {
		t.Error(text)
	}
}

// The state after a step is that after the waiting for what it expects: the next one begins there.
func TestTheStateIsWhatWasAwaited(t *testing.T) {
	soon := script.Sleep{For: time.Millisecond}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{Do: script.AddRule{Node: "web", Table: "filter", Chain: "INPUT", Spec: "-p tcp --dport 80 -j DROP"}, ID: "rule"},
		script.Step{Do: script.Connect{From: at("c1", 0), To: at("web", 80), Then: script.ThenKeep}, ID: "late", Background: true},
		script.Step{Do: soon, Expect: []script.Expectation{{Rules: map[string]map[string]script.Bound{"web": {"rule": script.AtLeast(1)}}}}},
		script.Step{Do: script.RemoveRule{Step: "rule"}},
		script.Step{Do: soon, Expect: []script.Expectation{{ // when the SYN is repeated, after a second
			Within: 10 * time.Second, Sockets: []script.SocketCount{{Node: "web", State: "ESTABLISHED", Count: script.Exactly(1)}},
		}}},
		script.Step{Do: script.Await{Step: "late"}, Expect: []script.Expectation{{Outcome: "Connected"}}},
	))
	if r.Verdict() != recording.AsExpected {
		t.Fatal(text)
	}
	if !slices.ContainsFunc(r.Steps[5].After["web"].Sockets, func(s recording.Socket) bool { return s.State == "ESTABLISHED" }) {
		t.Errorf("after step 6 web has the sockets %+v, and none of them is ESTABLISHED", r.Steps[5].After["web"].Sockets)
	}
}
