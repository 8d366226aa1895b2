//go:build linux

package play_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"twlab/harness/lab"
	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/harness/topo"
)

func at(name string, port uint16) script.Endpoint { return script.Endpoint{Name: name, Port: port} }

func node(name string) topo.Node { return topo.Node{Identity: topo.Identity{Name: name}} }

// lateRule is a client whose SYN leaves the gateway before the rule that translates it is
// there.
func lateRule() script.Scenario {
	vip := netip.MustParseAddr("10.99.0.1")
	gateway := node("gw")
	gateway.Forwards, gateway.Tracking = true, topo.Always
	gateway.Routes = []topo.Route{{To: netip.PrefixFrom(vip, 32), Via: "web"}}
	web := node("web")
	web.Routes = []topo.Route{{To: netip.MustParsePrefix("10.64.0.2/32"), Via: "gw"}}
	dnat := "-d 10.99.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.64.0.5:80"
	return script.Scenario{
		Name: "a rule that comes after its client",
		Network: topo.Network{
			Nodes:   []topo.Node{node("c1"), gateway, web},
			Links:   []topo.Link{{Outer: "c1", Inner: "gw"}, {Outer: "gw", Inner: "web"}},
			Sysctls: topo.OnNode("c1", "net.ipv4.tcp_syn_retries=1"),
			// A service of somebody else, so that table nat is asked from the first packet on.
			Rules: []topo.Rule{{Node: "gw", Table: "nat", Chain: "PREROUTING", Spec: "-d 10.99.0.2 -p tcp -j DNAT --to-destination 10.64.0.5"}},
		},
		Addresses: map[string]netip.Addr{"vip": vip},
		Steps: []script.Step{
			{Do: script.Listen{Node: "web", Port: 80}},
			{ID: "early", Background: true, Do: script.Connect{From: at("c1", 50000), To: at("vip", 80)}},
			{After: 400 * time.Millisecond, ID: "dnat", Do: script.AddRule{Node: "gw", Table: "nat", Chain: "PREROUTING", Spec: dnat}},
			{Do: script.Await{Step: "early"}, Expect: []script.Expectation{{
				Outcome: "TimedOut", Rules: map[string]map[string]script.Bound{"gw": {"dnat": script.Exactly(0)}},
				Flows: []script.FlowCount{{Node: "gw", Flow: script.Flow{State: "SYN_SENT", From: at("c1", 50000)}, Count: script.Exactly(1)}},
			}}},
			{Do: script.Connect{From: at("c1", 0), To: at("vip", 80)}, Expect: []script.Expectation{{Outcome: "Connected", ClosedFirst: "c1"}}},
			{Do: script.ForgetFlows{Node: "gw", Flow: script.Flow{From: at("c1", 50000)}}, Expect: []script.Expectation{{
				Forgotten: &script.Bound{Low: 1, High: 1},
			}}},
			{Do: script.Connect{From: at("c1", 50000), To: at("vip", 80)}, Expect: []script.Expectation{{
				Outcome: "Connected", Answers: []string{"SYN-ACK"}, SYNs: &script.Bound{Low: 1, High: 1},
			}}},
		},
	}
}

// playedLateRule is its recording, which several tests judge.
var playedLateRule = sync.OnceValues(func() (recording.Recording, error) {
	return play.Run(context.Background(), lateRule(), play.ByRelease)
})

func TestARuleThatComesLate(t *testing.T) {
	r, err := playedLateRule()
	var text strings.Builder
	if err := report.Text(&text, r); err != nil {
		t.Fatal(err)
	}
	if err != nil || r.Verdict() != recording.AsExpected {
		t.Fatalf("%v\n%s", err, text.String())
	}
	t.Log("\n" + text.String())
}

// direct is a client and a server with a link between them.
func direct(steps ...script.Step) script.Scenario {
	return script.Scenario{
		Name: "a client and a server",
		Network: topo.Network{
			Nodes:   []topo.Node{node("c1"), node("web")},
			Links:   []topo.Link{{Outer: "c1", Inner: "web"}},
			Sysctls: topo.OnNode("c1", "net.ipv4.tcp_syn_retries=1"),
		},
		Steps: steps,
	}
}

func TestVerdicts(t *testing.T) {
	refused := script.Step{
		Do:     script.Connect{From: at("c1", 0), To: at("web", 80)},
		Expect: []script.Expectation{{Outcome: "Refused", Answers: []string{"RST"}, SYNs: &script.Bound{Low: 1, High: 1}}},
	}
	connected := script.Step{Do: refused.Do, Expect: []script.Expectation{{Outcome: "Connected"}}}
	later := refused
	later.When = script.Condition{Since: "99.0"}
	waits := func(within, never time.Duration) script.Step {
		return script.Step{Do: script.Sleep{For: time.Millisecond}, Expect: []script.Expectation{{
			Within: within, Never: never, Sockets: []script.SocketCount{{Node: "web", State: "LISTEN", Count: script.Exactly(1)}},
		}}}
	}
	for _, c := range []struct {
		name  string
		steps []script.Step
		want  recording.Verdict
		says  string
	}{
		{"as expected", []script.Step{refused}, recording.AsExpected, "as expected   answers: RST"},
		{"not as expected", []script.Step{connected}, recording.NotAsExpected, "NOT EXPECTED  outcome: wanted Connected, seen Refused"},
		{"a sysctl that there is not", []script.Step{
			{Do: script.Set{Node: "web", Sysctls: []script.Sysctl{{Name: "net.ipv4.tcp_tw_recycle", Value: "1"}}}}, refused,
		}, recording.CannotHere, "FAILED"},
		{"a step that fails", []script.Step{
			{Do: script.AddRule{Node: "web", Table: "filter", Chain: "INPUT", Spec: "-p nothing -j DROP"}}, refused,
		}, recording.NotBroughtAbout, "FAILED"},
		{"left out", []script.Step{later, refused}, recording.AsExpected, "left out, only with the kernel since 99.0"},
		{"waits in vain", []script.Step{waits(200*time.Millisecond, 0)}, recording.NotAsExpected, "wanted 1, seen 0"},
		{"never", []script.Step{waits(0, 200*time.Millisecond)}, recording.AsExpected, "never within 200ms: 0"},
		{"came about", []script.Step{{Do: script.Listen{Node: "web", Port: 80}}, waits(0, time.Minute)}, recording.NotAsExpected, "NOT EXPECTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := play.Run(t.Context(), direct(c.steps...), play.ByRelease)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			if err := report.Text(&text, r); err != nil {
				t.Fatal(err)
			}
			if r.Verdict() != c.want || !strings.Contains(text.String(), c.says) {
				t.Errorf("%v, want %v, and %q in\n%s", r.Verdict(), c.want, c.says, text.String())
			}
		})
	}
}

func TestARecordingIsReadAgain(t *testing.T) {
	r, err := playedLateRule()
	if err != nil {
		t.Fatal(err)
	}
	r.By, r.File = "a test", recording.File{Name: "late.yaml", Text: "name: <late> & \"quoted\"\n"}
	var written bytes.Buffer
	if err := r.Write(&written); err != nil {
		t.Fatal(err)
	}
	fitsSchema(t, written.Bytes())
	again, err := recording.Read(&written)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, r) {
		t.Errorf("read again, it is another one: %d steps, %d packets, %d states", len(again.Steps), len(again.Packets), len(again.After))
	}
	if len(r.Packets) == 0 || len(r.After) != 3 || r.Nodes["c1"].Settings[recording.SYNRetries] != (recording.Setting{Value: "1", Said: true}) {
		t.Errorf("%d packets, %d states, nodes %v", len(r.Packets), len(r.After), r.Nodes)
	}
	for name, text := range map[string]func(io.Writer, recording.Recording) error{
		"text": report.Text,
		"summary": func(to io.Writer, r recording.Recording) error {
			return report.Summary(to, []report.Run{{Recordings: []recording.Recording{r}}})
		},
		"JUnit": func(to io.Writer, r recording.Recording) error {
			return report.JUnit(to, []report.Run{{Recordings: []recording.Recording{r}}})
		},
	} {
		var first, second strings.Builder
		if err := errors.Join(text(&first, r), text(&second, again)); err != nil {
			t.Fatal(err)
		}
		if first.String() != second.String() {
			t.Errorf("%s: read again, it says\n%s\ninstead of\n%s", name, second.String(), first.String())
		}
	}
}

// fitsSchema wants a recording to be what its schema says.
func fitsSchema(t *testing.T, text []byte) {
	t.Helper()
	schema, err := recording.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("run.schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("run.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled.Validate(instance); err != nil {
		t.Error(err)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	refused := script.Step{
		Do:     script.Connect{From: at("c1", 0), To: at("web", 80)},
		Expect: []script.Expectation{{Outcome: "Refused"}},
	}
	halt := errors.New("somebody has had enough")
	run := play.Runner{Progress: func(p play.Progress) {
		if p.Step == 2 {
			stop(halt)
		}
	}}
	r, err := run.Run(ctx, direct(refused, script.Step{Do: script.Sleep{For: time.Hour}}, refused))
	if !errors.Is(err, halt) || r.Verdict() != recording.Interrupted || len(r.Steps) != 2 || !r.Steps[1].Interrupted || r.Steps[0].Verdict() != recording.AsExpected {
		t.Errorf("%v: %v, steps %+v", err, r.Verdict(), r.Steps)
	}
	if len(r.Packets) == 0 || len(r.After) != 2 {
		t.Errorf("%d packets and %d states, want what there was until then", len(r.Packets), len(r.After))
	}
	var written bytes.Buffer
	if err := r.Write(&written); err != nil {
		t.Fatal(err)
	}
	fitsSchema(t, written.Bytes())
	if _, err := recording.Read(&written); err != nil {
		t.Errorf("an interrupted recording: %v", err)
	}
}

func TestKeptUntilItReturns(t *testing.T) {
	refused := script.Step{
		Do:     script.Connect{From: at("c1", 0), To: at("web", 80)},
		Expect: []script.Expectation{{Outcome: "Connected"}},
	}
	var listed int
	run := play.Runner{Keep: func(_ context.Context, r recording.Recording, l *lab.Lab) error {
		if r.Verdict() != recording.NotAsExpected {
			t.Errorf("%v, want what was recorded", r.Verdict())
		}
		inside, err := l.Inside("c1")
		if err != nil {
			return err
		}
		return inside(func() error {
			links, err := net.Interfaces()
			listed = len(links)
			return err
		})
	}}
	if _, err := run.Run(t.Context(), direct(refused)); err != nil || listed < 2 {
		t.Errorf("%v: %d links, want lo and eth0", err, listed)
	}
}

func TestScenarioThatIsWrong(t *testing.T) {
	_, err := play.Run(t.Context(), direct(), play.ByRelease)
	if err == nil || !strings.Contains(err.Error(), "nothing is expected of any step") {
		t.Errorf("%v, want what the check says", err)
	}
}
