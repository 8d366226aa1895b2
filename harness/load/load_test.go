//go:build linux

package load_test

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// behindGateway is a lab of some clients, and a plan that has no number of
// attempts yet.
func behindGateway(t *testing.T, clients int, ending tcp.Ending) load.Plan {
	t.Helper()
	l := labtest.Build(t, lab.Topology{
		Clients: clients, Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	})
	balancer := l.Balancer()
	serves := map[tcp.Ending]tcp.Ending{tcp.CloseAfterPeer: tcp.CloseFirst, tcp.CloseFirst: tcp.CloseAfterPeer}
	listener, err := balancer.Listen(t.Context(), tcp.ListenSpec{Ending: serves[ending]})
	if err != nil {
		t.Fatal(err)
	}
	return load.Plan{
		Clients: l.Nodes(lab.Client), Watched: append(l.Nodes(lab.Gateway), balancer),
		Attempt: tcp.Attempt{To: listener.Addr, Ending: ending}, Interval: 100 * time.Millisecond,
	}
}

func run(t *testing.T, p load.Plan) load.Result {
	t.Helper()
	result, err := load.Run(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestEveryClientHasItsAttempts(t *testing.T) {
	p := behindGateway(t, 7, tcp.CloseAfterPeer)
	p.Each = 60
	got := run(t, p)
	if got.Attempts != 420 || got.Outcomes[tcp.Connected] != 420 || got.SYNs != 420 || got.Late != 0 || got.Failed() != 0 {
		t.Errorf("got %+v, want 420 attempts that connected with their first SYN", got)
	}
	if n := got.Moved[topo.Client]["Tcp.ActiveOpens"]; n != 420 {
		t.Errorf("the clients opened %d connections, want 420", n)
	}
	if n := got.Moved[topo.Balancer]["Tcp.PassiveOpens"]; n != 420 {
		t.Errorf("the balancer accepted %d connections, want 420", n)
	}
	last := got.Series[len(got.Series)-1]
	if last.TimeWait[topo.Balancer] != 420 || last.TimeWait[topo.Client] != 0 || last.Flows[topo.Gateway] != 420 {
		t.Errorf("in the end: %v, want 420 TIME_WAITs at the balancer and 420 flows at the gateway", last)
	}
	if got.Latency.Count() != 420 || got.Latency.Quantile(0.5) == 0 {
		t.Errorf("latency of %d connections: %v", got.Latency.Count(), got.Latency)
	}
}

func TestRateIsKeptWhateverTheAnswers(t *testing.T) {
	t.Parallel()
	p := behindGateway(t, 5, tcp.CloseFirst)
	// A listener behind which nobody answers: the gateway forwards to nowhere.
	balancer := p.Watched[1]
	silent, err := balancer.Listen(t.Context(), tcp.ListenSpec{Backlog: new(1), NeverAccepts: true})
	if err != nil {
		t.Fatal(err)
	}
	p.Attempt.To = silent.Addr
	p.Attempt.Ending = tcp.Abort
	p.Rate, p.Duration = 200, time.Second
	got := run(t, p)
	if got.Attempts != 200 || got.Outcomes[tcp.TimedOut] == 0 {
		t.Errorf("got %v, want 200 attempts of which most time out", got.Outcomes)
	}
	if got.Achieved < 100 || got.Achieved > 210 || got.Behind.Count() != 200 {
		t.Errorf("offered %v, achieved %v, behind %v: want nobody to wait for the answers", got.Offered, got.Achieved, got.Behind)
	}
	begun, decided := 0, 0
	for _, row := range got.Series {
		begun += row.Begun
		for _, n := range row.Outcomes {
			decided += n
		}
	}
	if begun != 200 || decided != 200 {
		t.Errorf("the rows have %d attempts and %d outcomes, want 200 of both", begun, decided)
	}
	var text bytes.Buffer
	if err := load.WriteSeries(&text, got.Series); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(text.String(), "\n"); lines != len(got.Series) {
		t.Errorf("%d lines for %d rows", lines, len(got.Series))
	}
}

func TestProgressIsTold(t *testing.T) {
	t.Parallel()
	p := behindGateway(t, 2, tcp.CloseFirst)
	silent, err := p.Watched[1].Listen(t.Context(), tcp.ListenSpec{Backlog: new(1), NeverAccepts: true})
	if err != nil {
		t.Fatal(err)
	}
	// Time-outs take 3 s, so that even a busy machine ends several rows before the load ends.
	p.Attempt.To, p.Attempt.Ending, p.Each = silent.Addr, tcp.Abort, 3
	var told []load.Row
	p.Progress = func(r load.Row) { told = append(told, r) }
	rows := run(t, p).Series
	if len(told) < 2 || len(told) != len(rows)-1 {
		t.Fatalf("%d rows were told of %d, want all but the last, which ends with the load", len(told), len(rows))
	}
	begun := 0
	for i, r := range told {
		if begun += r.Begun; r.At != rows[i].At {
			t.Errorf("row %d was told as that of %v, want %v", i, r.At, rows[i].At)
		}
	}
	if begun != 6 || !strings.Contains(told[0].String(), "begun") {
		t.Errorf("progress: %v, want 6 attempts that began", told)
	}
}

func TestInFlightHoldsBack(t *testing.T) {
	t.Parallel()
	p := behindGateway(t, 3, tcp.CloseFirst)
	silent, err := p.Watched[1].Listen(t.Context(), tcp.ListenSpec{Backlog: new(1), NeverAccepts: true})
	if err != nil {
		t.Fatal(err)
	}
	p.Attempt.To, p.Attempt.Ending = silent.Addr, tcp.Abort
	// Time-outs take seconds: of 40 at once, 20 have to wait for the others.
	p.Rate, p.Duration, p.InFlight = 40, time.Second, 20
	got := run(t, p)
	if got.Behind.Max() < 500*time.Millisecond {
		t.Errorf("behind: %v, want attempts that waited for room", got.Behind)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	l := labtest.Build(t, lab.Topology{Clients: 1})
	good := load.Plan{Clients: l.Nodes(lab.Client), Attempt: tcp.Attempt{To: netip.AddrPortFrom(l.Balancer().Identity().Addr, 80)}, Each: 1}
	for _, c := range []struct {
		name, want string
		spoil      func(*load.Plan)
	}{
		{"nobody", "no clients", func(p *load.Plan) { p.Clients = nil }},
		{"nowhere", "no destination", func(p *load.Plan) { p.Attempt.To = tcp.Attempt{}.To }},
		{"no end", "no end: give a number of attempts", func(p *load.Plan) { p.Each = 0 }},
		{"a rate for ever", "no end: give a number of attempts", func(p *load.Plan) { p.Each, p.Rate = 0, 5 }},
		{"rate 0", "for 1s, but no rate", func(p *load.Plan) { p.Each, p.Duration = 0, time.Second }},
		{"both ends", "both a number of attempts (1 each) and a duration (1s)", func(p *load.Plan) { p.Duration = time.Second }},
		{"negative rate", "-1 attempts per second", func(p *load.Plan) { p.Rate = -1 }},
		{"endless rate", "+Inf attempts per second", func(p *load.Plan) { p.Rate = math.Inf(1) }},
		{"negative number", "-1 attempts for each client", func(p *load.Plan) { p.Each = -1 }},
		{"negative time", "for -1s", func(p *load.Plan) { p.Each, p.Rate, p.Duration = 0, 1, -time.Second }},
		{"too slow", "0.1 attempts per second for 1s make none", func(p *load.Plan) { p.Each, p.Rate, p.Duration = 0, 0.1, time.Second }},
		{"negative room", "-1 in flight", func(p *load.Plan) { p.InFlight = -1 }},
		{"negative rows", "interval -1ns", func(p *load.Plan) { p.Interval = -1 }},
		{"too many descriptors", "connections at once need", func(p *load.Plan) { p.Each = 100_000_000 }},
		{"too many in flight", "raise the limit (ulimit -n ", func(p *load.Plan) {
			p.Attempt.Ending, p.Each, p.InFlight = tcp.CloseFirst, 100_000_000, 50_000_000
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := good
			c.spoil(&p)
			_, err := load.Run(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if err := good.Validate(); err != nil {
		t.Errorf("a good plan: %v", err)
	}
}

func TestSeedDecidesTheOrder(t *testing.T) {
	first := load.Plan{Clients: make([]node.Node, 50), Seed: 1}
	same, other := first, first
	other.Seed = 2
	if !slices.Equal(load.Order(first, 3), load.Order(same, 3)) {
		t.Error("the same seed made another order")
	}
	if slices.Equal(load.Order(first, 3), load.Order(other, 3)) || slices.Equal(load.Order(first, 3), load.Order(first, 4)) {
		t.Error("another seed, or another round, made the same order")
	}
}
