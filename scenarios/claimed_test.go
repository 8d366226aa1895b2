package scenarios

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/scenarios/claim"
)

// ofCell is a cell as twlab show tells it.
func ofCell(t *testing.T, words ...string) script.Scenario {
	t.Helper()
	f, c, err := Named(words, claim.Newest())
	if err != nil {
		t.Fatal(err)
	}
	s, err := asTold(f, c, claim.Newest())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// with is the scenario with a sysctl of the balancer.
func with(s script.Scenario, name, value string) script.Scenario {
	settings := s.Network.Sysctls
	s.Network.Sysctls = nil
	for _, one := range settings {
		if one.Name != name || one.Role != "balancer" {
			s.Network.Sysctls = append(s.Network.Sysctls, one)
		}
	}
	s.Network.Sysctls = s.Network.Sysctls.On("balancer", name+"="+value)
	return s
}

func TestWhichRuleClaims(t *testing.T) {
	tuple := ofCell(t, "tuple", "clock=older")
	longer, renamed := tuple, tuple
	longer.Steps = append([]script.Step{{Do: script.Sleep{For: 1}}}, longer.Steps...)
	renamed.Name = "a case of mine"
	expects := tuple
	expects.Steps = append([]script.Step(nil), tuple.Steps...)
	expects.Steps[0].Expect = []script.Expectation{{Outcome: "Listening"}}
	for _, c := range []struct {
		name         string
		s            script.Scenario
		rule, beyond string
	}{
		{"as it is", tuple, "tuple-older-timestamp-answered", ""},
		{"with other expectations", expects, "tuple-older-timestamp-answered", ""},
		{"with another value of an axis", with(tuple, "net.ipv4.tcp_rfc1337", "1"), "tuple-older-timestamp-blocked", ""},
		{"with a value of no axis", with(tuple, "net.ipv4.tcp_rfc1337", "2"), "tuple-older-timestamp-answered", "net.ipv4.tcp_rfc1337=2 on the balancer"},
		{"with another sysctl", with(tuple, "net.ipv4.tcp_fin_timeout", "5"), "tuple-older-timestamp-answered", "net.ipv4.tcp_fin_timeout=5 on the balancer"},
		{"with the default of another", with(tuple, "net.ipv4.tcp_fin_timeout", "60"), "tuple-older-timestamp-answered", ""},
		{"with another step", longer, "tuple-older-timestamp-answered", "its network or its steps are not those of a cell"},
		{"with a value that needs other steps", with(tuple, "net.ipv4.tcp_timestamps", "0"), "tuple-newer-number", "its network or its steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, is := ClaimedBy(c.s, claim.Newest())
			if !is || !strings.Contains(got.Beyond, c.beyond) || c.beyond == "" && got.Beyond != "" {
				t.Errorf("%t, beyond %q, want %q", is, got.Beyond, c.beyond)
			}
			if got.Rule.Name != c.rule {
				t.Errorf("rule %s, want %s", got.Rule.Name, c.rule)
			}
		})
	}
	if _, is := ClaimedBy(renamed, claim.Newest()); is {
		t.Error("a scenario of another name is a cell")
	}
}

func TestWhatARuleSaysOfTheResult(t *testing.T) {
	c, _ := ClaimedBy(ofCell(t, "tuple", "clock=older"), claim.Newest())
	ended := func(outcome string, answers ...string) recording.Recording {
		last := recording.Step{Result: recording.Result{Attempts: []recording.Attempt{{Outcome: outcome, SYNs: len(answers), Answers: answers}}}}
		// By the RST of the client the TIME_WAIT goes away.
		moved := map[string]recording.State{"client1": {Counters: map[string]uint64{"Tcp.OutRsts": 1, "TcpExt.TCPSynRetrans": 1}}}
		return recording.Recording{Steps: []recording.Step{last}, After: moved}
	}
	right := "rule tuple-older-timestamp-answered predicts answers: ACK, SYN-ACK; outcome: Connected, which was seen"
	if got := c.Text(ended("Connected", "ACK", "SYN-ACK")); got != right {
		t.Errorf("%q, want %q", got, right)
	}
	wrong := "rule tuple-older-timestamp-answered predicts answers: ACK, SYN-ACK (seen: ACK, none); outcome: Connected (seen: TimedOut), which was NOT seen"
	if got := c.Text(ended("TimedOut", "ACK", "")); got != wrong {
		t.Errorf("%q, want %q", got, wrong)
	}
	quiet := ended("Connected", "ACK", "SYN-ACK")
	quiet.After = nil
	if got := c.Text(quiet); !strings.Contains(got, "client1 Tcp.OutRsts: >= 1 (seen: 0)") {
		t.Errorf("%q does not say that no RST was counted", got)
	}
	load, _ := ClaimedBy(ofCell(t, "refusal", "by=client"), claim.Newest())
	text := load.Text(recording.Recording{Steps: []recording.Step{{Result: recording.Result{Load: &recording.Load{Outcomes: map[string]int{"Connected": 60}}}}}})
	for _, part := range []string{"outcome Connected: 40 (seen: 60)", "outcome NoPort: 20 (seen: 0)", "NOT seen"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// The sockets that a rule predicts are looked for, too, and so is the status code of a step before the
// last one.
func TestWhatARuleSaysOfTheNetwork(t *testing.T) {
	length, is := ClaimedBy(ofCell(t, "length", "fin-timeout=5"), claim.Newest())
	if !is {
		t.Fatal("it is no cell")
	}
	at := func(expires time.Duration) recording.Recording {
		halfClosed := recording.Socket{State: "FIN_WAIT2", Remote: netip.MustParseAddrPort("10.20.0.2:80"), Timer: "timewait", Expires: expires}
		return recording.Recording{Steps: []recording.Step{{}}, After: map[string]recording.State{"client0": {Sockets: []recording.Socket{halfClosed}}}}
	}
	for expires, want := range map[time.Duration]string{
		4 * time.Second:  "rule length-fin-timeout-5 predicts sockets of client0 FIN_WAIT2: 1, which was seen",
		40 * time.Second: "rule length-fin-timeout-5 predicts sockets of client0 FIN_WAIT2: 1 (seen: 0), which was NOT seen",
	} {
		if got := length.Text(at(expires)); got != want {
			t.Errorf("%v: %q, want %q", expires, got, want)
		}
	}
	two, _ := ClaimedBy(ofCell(t, "dualstack", "first=::", "second=0.0.0.0", "options=reuseport"), claim.Newest())
	status := func(first, second int) recording.Recording {
		step := func(code int) recording.Step {
			return recording.Step{Result: recording.Result{Attempts: []recording.Attempt{{Replies: []recording.Reply{{Status: code}}}}}}
		}
		listens := recording.Step{Result: recording.Result{Outcome: "Listening"}}
		return recording.Recording{Steps: []recording.Step{listens, listens, step(first), step(second)}}
	}
	if got := two.Text(status(202, 201)); !strings.HasSuffix(got, "status: 201, which was seen") {
		t.Error(got)
	}
	if got := two.Text(status(201, 201)); !strings.Contains(got, "status: 202 (seen: 201)") || !strings.HasSuffix(got, "NOT seen") {
		t.Error(got)
	}
}

// A sysctl that is no axis of its own may belong to another value of one.
func TestASysctlOfAnotherCell(t *testing.T) {
	for _, c := range []struct {
		from, to []string
		rule     string
	}{
		{[]string{"length", "fin-timeout=5"}, []string{"length", "fin-timeout=60"}, "length-fin-timeout-60"},
		{[]string{"bothversions", "sysctl=net.ipv4.tcp_syncookies"}, []string{"bothversions", "sysctl=net.ipv4.tcp_syncookies", "setting=usual"}, "bothversions-tcp-syncookies-usual"},
	} {
		s := ofCell(t, c.from...)
		s.Network.Sysctls = ofCell(t, c.to...).Network.Sysctls
		if got, _ := ClaimedBy(s, claim.Newest()); got.Rule.Name != c.rule || got.Beyond != "" {
			t.Errorf("%s, beyond %q, want %s", got.Rule.Name, got.Beyond, c.rule)
		}
	}
}
