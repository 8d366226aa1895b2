package script

import (
	"strings"
	"testing"

	"twlab/harness/topo"
)

// direct is a client and a server with a link between them.
func direct(steps ...Step) Scenario {
	return Scenario{
		Name: "a client and a server",
		Network: topo.Network{
			Nodes: []topo.Node{{Identity: topo.Identity{Name: "c1"}}, {Identity: topo.Identity{Name: "web"}}},
			Links: []topo.Link{{Outer: "c1", Inner: "web"}},
		},
		Steps: steps,
	}
}

var (
	listen  = Step{Do: Listen{Node: "web", Port: 80}}
	connect = Connect{From: Endpoint{Name: "c1"}, To: Endpoint{Name: "web", Port: 80}}
	gets    = []Expectation{{Outcome: "Connected"}}
)

func TestAScenarioThatIsRight(t *testing.T) {
	keep := connect
	keep.Then = ThenKeep
	s := direct(
		listen,
		Step{ID: "first", Background: true, Do: keep},
		Step{Do: Await{Step: "first"}, Expect: gets},
		Step{Do: Send{Conn: Conn{Step: "first"}, Bytes: 5}, Expect: []Expectation{{Sent: &Bound{Low: 5, High: 5}}}},
		Step{Do: Close{Conn: Conn{Step: "first"}}, Expect: []Expectation{{
			Within:  1e9,
			Sockets: []SocketCount{{Node: "c1", State: "TIME_WAIT", Count: Exactly(1)}},
		}}},
	)
	for _, p := range s.Check() {
		t.Error(p)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	kept := Step{ID: "a", Do: Connect{From: Endpoint{Name: "c1"}, To: Endpoint{Name: "web", Port: 80}, Then: ThenKeep}, Expect: gets}
	closed := Step{ID: "a", Do: connect, Expect: gets}
	expect := func(e ...Expectation) Step { return Step{Do: connect, Expect: e} }
	for _, c := range []struct {
		name  string
		steps []Step
		want  string
	}{
		{"no verb", []Step{{}}, `steps.0: a step without a verb: want one of listen, connect,`},
		{"no node", []Step{{Do: Listen{Node: "wen", Port: 80}}}, `steps.0.listen.node: no node "wen": there are c1 and web`},
		{"no port", []Step{{Do: Connect{From: Endpoint{Name: "c1"}, To: Endpoint{Name: "web"}}}}, `steps.0.connect.to: which port of web?`},
		{"nothing expected", []Step{listen}, `steps: nothing is expected of any step`},
		{"background without an id", []Step{{Background: true, Do: connect}}, `steps.0.background: a step in the background needs an id`},
		{"never awaited", []Step{{ID: "a", Background: true, Do: connect}, expect(gets...)}, `steps.0: "a" runs in the background, and no step awaits it`},
		{"awaits itself", []Step{{ID: "a", Do: Await{Step: "a"}}}, `steps.0.await: "a" is this step itself`},
		{"awaits what is over", []Step{closed, {Do: Await{Step: "a"}}}, `steps.1.await: "a" does not run in the background`},
		{"twice the same id", []Step{closed, closed}, `steps.1.id: "a" is the id of an earlier step`},
		{"connection that is closed", []Step{closed, {Do: Send{Conn: Conn{Step: "a"}, Bytes: 1}}}, `steps.1.send.conn: "a" was ended by its "then"`},
		{"closed twice", []Step{kept, {Do: Close{Conn{Step: "a"}}}, {Do: Reset{Conn{Step: "a"}}}}, `steps.2.reset: "a" was ended by close`},
		{"server's end without a holder", []Step{listen, kept, {Do: Close{Conn{"a", true}}}}, `steps.2.close: no listener leaves its connections`},
		{"neighbour", []Step{{Do: Drop{Node: "c1", Out: "gw"}}, expect(gets...)}, `steps.0.drop.out: c1 has no link to "gw"`},
		{"both ways", []Step{{Do: Drop{Node: "c1", In: "web", Out: "web"}}, expect(gets...)}, `want either "in"`},
		{"undecided", []Step{expect(Expectation{Outcome: "Undecided"})}, `steps.0.expect.outcome: Undecided is the end of twlab's patience`},
		{"no such outcome", []Step{expect(Expectation{Outcome: "Timeout"})}, `no outcome "Timeout": want Connected,`},
		{"cannot fail", []Step{expect(Expectation{SYNs: &Bound{Open: true}})}, `steps.0.expect.syns: >= 0: this cannot fail`},
		{"empty", []Step{expect(Expectation{})}, `steps.0.expect: nothing is expected`},
		{"second of two", []Step{expect(gets[0], Expectation{Outcome: "x"})}, `steps.0.expect.1.outcome: no outcome "x"`},
		{"no such result", []Step{{Do: Sleep{1e9}, Expect: gets}}, `steps.0.expect.outcome: "sleep" has no outcome: it has no result`},
		{"one result of many", []Step{{Do: Connect{From: Endpoint{Name: "c1"}, To: Endpoint{Name: "web", Port: 80}, Count: 2}, Expect: []Expectation{{Errno: "none"}}}},
			`steps.0.expect.errno: "connect" has no errno: it has outcome, outcomes and cause`},
		{"up for a time", []Step{{Do: SetLink{A: "c1", B: "web", Up: true, For: 1e9}}, expect(gets...)}, `steps.0.link.for: a link is taken down for a time`},
		{"too early", []Step{{ID: "a", Background: true, Do: connect, Expect: gets}, {Do: Await{"a"}}}, `expect this where "a" is awaited`},
		{"waits for nothing", []Step{expect(Expectation{Within: 1e9, Outcome: "Refused"})}, `steps.0.expect: nothing to wait for`},
		{"counter without group", []Step{expect(Expectation{Counters: map[string]map[string]Bound{"web": {"ListenDrops": Exactly(1)}}})}, `begins with its group`},
		{"state", []Step{expect(Expectation{Sockets: []SocketCount{{Node: "web", State: "TIMEWAIT"}}})}, `steps.0.expect.sockets.state: no state "TIMEWAIT"`},
		{"feature", []Step{{When: Condition{Feature: "nothing"}, Do: connect, Expect: gets}}, `steps.0.when.feature: no feature "nothing"`},
		{"program", []Step{{Do: Reload{Node: "web"}}, expect(gets...)}, `steps.0.reload.node: web has no program`},
		{"sysctl", []Step{{Do: Set{"web", []Sysctl{{"kernel.core_pattern", "|x"}}}}, expect(gets...)}, `only sysctls below net.`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []string
			for _, p := range direct(c.steps...).Check() {
				all = append(all, p.String())
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, c.want) {
				t.Errorf("got\n%s\nwant %s", got, c.want)
			}
		})
	}
}

// What balances in a kernel has weights; what is a program can be stopped.
func TestCheckOfIPVS(t *testing.T) {
	here, there := Endpoint{Name: "c1", Port: 80}, Endpoint{Name: "c1", Port: 81}
	for _, c := range []struct {
		name string
		kind ProgramKind
		do   Action
		want string // empty when nothing is wrong
	}{
		{"weight", IPVS, Reload{Node: "web", Weights: []Weight{{here, 0}}}, ""},
		{"without", IPVS, Reload{Node: "web", Without: []Endpoint{here}}, ""},
		{"weight of a program", HAProxy, Reload{Node: "web", Weights: []Weight{{here, 0}}}, `steps.0.reload: only ipvs has weights`},
		{"weight of nobody", IPVS, Reload{Node: "web", Weights: []Weight{{there, 0}}}, `steps.0.reload.weights: c1:81 is none of the servers`},
		{"without nobody", IPVS, Reload{Node: "web", Without: []Endpoint{there}}, `steps.0.reload.without: c1:81 is none of the servers`},
		{"weight below 0", IPVS, Reload{Node: "web", Weights: []Weight{{here, -1}}}, `steps.0.reload.weights: -1: want 0 to`},
		{"stop", IPVS, Stop{Node: "web"}, `steps.0.stop.node: what balances at web is its kernel`},
		{"start", IPVS, Start{Node: "web"}, `steps.0.start.node: what balances at web is its kernel`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := direct(Step{Do: c.do}, Step{Do: connect, Expect: gets})
			s.Programs = map[string]Program{"web": {Kind: c.kind, Servers: []Endpoint{here}}}
			var all []string
			for _, p := range s.Check() {
				all = append(all, p.String())
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got\n%s\nwant %s", got, c.want)
			}
		})
	}
}
