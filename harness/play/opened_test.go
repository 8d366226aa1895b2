//go:build linux

package play_test

import (
	"net/netip"
	"strings"
	"testing"

	"twlab/harness/recording"
	"twlab/harness/script"
)

// A listener that cannot be opened ends the run, unless the step asks for the kernel's answer:
// else the connection after it would be blamed on a server that nobody has meant.
func TestAListenerThatIsNotOpened(t *testing.T) {
	listen := func(port uint16, expect ...script.Expectation) script.Step {
		return script.Step{Do: script.Listen{Node: "web", Port: port}, Expect: expect}
	}
	under := listen(80)
	under.ID, under.Background = "second", true
	elsewhere := script.Step{Do: script.Listen{Node: "web", Port: 81, At: script.Endpoint{Name: "nobody"}}}
	inUse := script.Expectation{Outcome: "PortInUse"}
	later := script.Expectation{Outcome: "PortInUse", When: script.Condition{Since: "99.0"}}
	other := script.Expectation{Sockets: []script.SocketCount{{Node: "web", State: "LISTEN", Count: script.Exactly(1)}}}
	for _, c := range []struct {
		name  string
		steps []script.Step
		want  recording.Verdict
		says  string
	}{
		{"nobody asks", []script.Step{listen(80)}, recording.NotBroughtAbout, `"listen web:80" opened no listener (EADDRINUSE: another socket has the port), and the step does not expect outcome: PortInUse`},
		{"asked of another kernel", []script.Step{listen(80, later)}, recording.NotBroughtAbout, "opened no listener"},
		{"something else is asked", []script.Step{listen(80, other)}, recording.NotBroughtAbout, "opened no listener"},
		{"in the background", []script.Step{under, {Do: script.Await{Step: "second"}}}, recording.NotBroughtAbout, `"listen web:80" opened no listener`},
		{"an address of nobody", []script.Step{elsewhere}, recording.NotBroughtAbout, "EADDRNOTAVAIL: the node does not have this address"},
		{"the outcome is asked", []script.Step{listen(80, inUse)}, recording.AsExpected, "as expected   outcome: PortInUse"},
		{"the errno is asked", []script.Step{listen(80, script.Expectation{Errno: "EADDRINUSE"})}, recording.AsExpected, "as expected   errno: EADDRINUSE"},
		{"who has it is asked", []script.Step{listen(80, script.Expectation{Holder: &script.SocketCount{Node: "web", State: "LISTEN", Count: script.Exactly(1)}})}, recording.AsExpected, "holder"},
		{"asked in the background", []script.Step{under, {Do: script.Await{Step: "second"}, Expect: []script.Expectation{inUse}}}, recording.AsExpected, "as expected   outcome: PortInUse"},
		{"another answer is expected", []script.Step{listen(80, script.Expectation{Outcome: "Listening"})}, recording.NotAsExpected, "wanted Listening, seen PortInUse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			connect := script.Step{
				Do:     script.Connect{From: at("c1", 0), To: at("web", 80)},
				Expect: []script.Expectation{{Outcome: "Connected"}},
			}
			s := direct(append(append([]script.Step{listen(80)}, c.steps...), connect)...)
			s.Addresses = map[string]netip.Addr{"nobody": netip.MustParseAddr("10.99.0.1")}
			r, text := played(t, s)
			if r.Verdict() != c.want || !strings.Contains(text, c.says) {
				t.Errorf("%v, want %v, and %q in\n%s", r.Verdict(), c.want, c.says, text)
			}
			wentOn := r.Steps[len(r.Steps)-1].Verb == "connect"
			if wentOn != (c.want != recording.NotBroughtAbout) {
				t.Errorf("the run went on: %v\n%s", wentOn, text)
			}
		})
	}
}
