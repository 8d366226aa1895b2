//go:build linux

package play_test

import (
	"strings"
	"testing"
	"time"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
)

// A listener at 127.0.0.1 and one at ::1 are two, and each is reached by its own name.
func TestLoopback(t *testing.T) {
	web := func(at script.Endpoint, status int) script.Step {
		return script.Step{Do: script.Listen{Node: "web", Port: 80, At: at, Serve: script.ServeHTTP, Web: script.Web{Status: status}}}
	}
	four, six := script.Endpoint{Name: script.Loopback}, script.Endpoint{Name: script.Loopback, Six: true}
	ask := func(to script.Endpoint, status int64) script.Step {
		to.Port = 80
		return script.Step{Do: script.Exchange{From: at("web", 0), To: to}, Expect: []script.Expectation{{Status: exactly(status)}}}
	}
	s := direct(web(four, 201), web(six, 202), ask(four, 201), ask(six, 202), ask(six, 201)) // the last is wrong
	s.Network.IP = topo.DualStack
	r, text := played(t, s)
	if r.Verdict() != recording.NotAsExpected || strings.Count(text, "NOT EXPECTED") != 1 || !strings.Contains(text, "status: wanted 201, seen 202") {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

// A listener at all addresses of IPv4 has none of IPv6.
func TestAllAddressesOfAVersion(t *testing.T) {
	connect := func(six bool, outcome string) script.Step {
		to := script.Endpoint{Name: "web", Port: 80, Six: six}
		return script.Step{Do: script.Connect{From: at("c1", 0), To: to}, Expect: []script.Expectation{{Outcome: outcome}}}
	}
	s := direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, At: script.Endpoint{Name: script.Everywhere}}},
		connect(false, "Connected"), connect(true, "Refused"),
	)
	s.Network.IP = topo.DualStack
	if r, text := played(t, s); r.Verdict() != recording.AsExpected {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

// Two connections of one five-tuple have one clock, those of two ports have not
// (tcp_timestamps=1), and without timestamps there is none.
func TestClocksOfConnections(t *testing.T) {
	yes, no := true, false
	second := func(port uint16, e script.Expectation) script.Step {
		return script.Step{ID: "second", Do: keep(port), Expect: []script.Expectation{e}}
	}
	for _, c := range []struct {
		name, timestamps string
		port             uint16
		expect           script.Expectation
		met              bool
	}{
		{"the same five-tuple", "1", 40000, script.Expectation{SameClock: "first", Timestamps: &yes}, true},
		{"the same five-tuple is no other clock", "1", 40000, script.Expectation{OtherClock: "first"}, false},
		{"no clock, and so not the same", "0", 40000, script.Expectation{SameClock: "first"}, false},
		{"no clock, and so no other", "0", 40000, script.Expectation{OtherClock: "first"}, false},
		{"without timestamps", "0", 40000, script.Expectation{Timestamps: &no}, true},
		{"without timestamps, which are wanted", "0", 40000, script.Expectation{Timestamps: &yes}, false},
		{"uptime", "2", 40001, script.Expectation{SameClock: "first"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := direct(
				script.Step{Do: script.Listen{Node: "web", Port: 80}},
				script.Step{ID: "first", Do: keep(40000)},
				script.Step{Do: script.Reset{Conn: script.Conn{Step: "first"}}},
				second(c.port, c.expect),
			)
			s.Network.Sysctls = s.Network.Sysctls.OnNode("c1", "net.ipv4.tcp_timestamps="+c.timestamps)
			r, text := played(t, s)
			if met := r.Verdict() == recording.AsExpected; met != c.met {
				t.Errorf("%v\n%s", r.Verdict(), text)
			}
		})
	}
}

// A clock that was set back makes the next segment look older, and the server rejects it.
func TestAClockIsSetBack(t *testing.T) {
	conn := script.Conn{Step: "first"}
	send := script.Send{Conn: conn, Bytes: 1}
	rejected := func(b script.Bound) []script.Expectation {
		return []script.Expectation{{Counters: map[string]map[string]script.Bound{"web": {"TcpExt.PAWSEstab": b}}}}
	}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{ID: "first", Do: keep(40000)},
		script.Step{Do: send, Expect: rejected(script.Exactly(0))},
		script.Step{Do: script.Clock{Conn: conn, Back: time.Hour}},
		script.Step{Do: send, Expect: rejected(script.AtLeast(1))},
		script.Step{Do: script.Reset{Conn: conn}},
	))
	if r.Verdict() != recording.AsExpected {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}

// A TIME_WAIT lasts a minute, so its timer fires neither in ten seconds nor in two minutes.
func TestTheTimerOfASocket(t *testing.T) {
	left := func(b script.Bound) []script.Expectation {
		return []script.Expectation{{Sockets: []script.SocketCount{{Node: "c1", State: "TIME_WAIT", Count: script.Exactly(1), Expires: &b}}}}
	}
	connect := script.Connect{From: at("c1", 0), To: at("web", 80), Then: script.ThenCloseFirst}
	r, text := played(t, direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80}},
		script.Step{Do: connect, Expect: left(script.Between(20_000, 60_020))},
		script.Step{Do: script.Sleep{For: time.Millisecond}, Expect: left(script.AtMost(10_000))},   // wrong
		script.Step{Do: script.Sleep{For: time.Millisecond}, Expect: left(script.AtLeast(120_000))}, // wrong
	))
	if r.Verdict() != recording.NotAsExpected || strings.Count(text, "NOT EXPECTED") != 2 {
		t.Errorf("%v\n%s", r.Verdict(), text)
	}
}
