package scenarios

import (
	"strings"
	"testing"

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
	ended := func(outcome string, answers ...string) recording.Step {
		return recording.Step{Result: recording.Result{Attempts: []recording.Attempt{{Outcome: outcome, SYNs: len(answers), Answers: answers}}}}
	}
	right := "rule tuple-older-timestamp-answered predicts answers: ACK, SYN-ACK; outcome: Connected, which was seen"
	if got := c.Text(ended("Connected", "ACK", "SYN-ACK")); got != right {
		t.Errorf("%q, want %q", got, right)
	}
	wrong := "rule tuple-older-timestamp-answered predicts answers: ACK, SYN-ACK (seen: ACK, none); outcome: Connected (seen: TimedOut), which was NOT seen"
	if got := c.Text(ended("TimedOut", "ACK", "")); got != wrong {
		t.Errorf("%q, want %q", got, wrong)
	}
	load, _ := ClaimedBy(ofCell(t, "refusal", "by=client"), claim.Newest())
	text := load.Text(recording.Step{Result: recording.Result{Load: &recording.Load{Outcomes: map[string]int{"Connected": 60}}}})
	for _, part := range []string{"outcome Connected: 40 (seen: 60)", "outcome NoPort: 20 (seen: 0)", "NOT seen"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}
