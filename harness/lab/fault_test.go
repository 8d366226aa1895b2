//go:build linux

package lab_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// faultLab is clients, a router and a balancer that listens. Clients send few SYNs.
func faultLab(t *testing.T, clients int) (*lab.Lab, node.Listening) {
	t.Helper()
	l := build(t, lab.Topology{
		Clients: clients, Gateway: lab.GatewaySpec{Kind: lab.Routed},
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1"),
	})
	return l, listenOn(t, l.Balancer(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
}

// atGateway is a drop of SYNs before the gateway tracks them.
func atGateway(change func(*topo.Drop)) topo.Drop {
	d := topo.Drop{Node: "gateway", Table: "raw", Chain: "PREROUTING", Match: "-p tcp --syn"}
	if change != nil {
		change(&d)
	}
	return d
}

// backends are the programs of iptables that are installed.
func backends(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{"iptables-nft", "iptables-legacy"} {
		if path, err := exec.LookPath(name); err == nil {
			found[name] = path
		}
	}
	if len(found) == 0 {
		t.Skip("neither iptables-nft nor iptables-legacy is installed: run hack/bootstrap")
	}
	return found
}

// use makes a backend the iptables of this test.
func use(t *testing.T, program string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save"} {
		if err := os.Symlink(program+strings.TrimPrefix(name, "iptables"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// syns counts the SYNs that came into the gateway, and those that left it.
func syns(t *testing.T, l *lab.Lab) (in, out int) {
	t.Helper()
	packets, err := l.Packets()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		switch {
		case p.Point != "gateway" || !p.Flags.Has(observe.FlagSYN) || p.Flags.Has(observe.FlagACK):
		case p.Direction == observe.In:
			in++
		default:
			out++
		}
	}
	return in, out
}

// The kernel drops the first packets and no other one, however many come at once from several
// clients, and while rules of the same table come and go.
func TestDropOfTheFirst(t *testing.T) {
	privileged(t)
	for name, program := range backends(t) {
		t.Run(name, func(t *testing.T) {
			use(t, program)
			l, listening := faultLab(t, 2)
			if err := l.Capture("client0", "client1", "balancer"); err != nil {
				t.Fatal(err)
			}
			const first, each = 65, 100
			drops, err := l.Drop(atGateway(func(d *topo.Drop) { d.First = first }))
			if err != nil {
				t.Fatal(err)
			}
			other := lab.Rule{Node: "gateway", Table: "raw", Chain: "PREROUTING", Spec: "-p udp -j ACCEPT"}
			attempts := make([]tcp.Attempt, each)
			for i := range attempts {
				attempts[i] = tcp.Attempt{To: listening.Addr, Ending: tcp.CloseFirst}
			}
			counted := make(chan error, 2)
			for i := range 2 {
				go func() {
					results, err := l.Client(i).Attempt(t.Context(), attempts)
					for _, r := range results {
						if r.Outcome != tcp.Connected && r.Outcome != tcp.TimedOut {
							err = errors.Join(err, errors.New(r.String()))
						}
					}
					counted <- err
				}()
			}
			for range 3 {
				if err := errors.Join(l.AddRules(other), l.RemoveRules(other)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := <-counted; err != nil {
					t.Error(err)
				}
			}
			if err := drops.Await(t.Context()); err != nil {
				t.Error(err)
			}
			in, out := syns(t, l)
			if dropped, err := drops.Dropped(); err != nil || dropped != first || in-out != first || in < 2*each {
				t.Errorf("counted %d, %v; %d SYNs came in and %d left, want a difference of %d", dropped, err, in, out, first)
			}
			if rules, err := l.Gateway().Rules(t.Context()); err != nil || len(rules) != 0 {
				t.Errorf("left over: %v, %v", rules, err)
			}
		})
	}
}

// A drop ends by hand, by its time, and with the lab; what it has dropped is known after it.
func TestDropEnds(t *testing.T) {
	t.Parallel() // it waits
	l, listening := faultLab(t, 1)
	connect := func(want tcp.Outcome, syns int) (sent uint64) {
		t.Helper()
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: listening.Addr, Ending: tcp.CloseNow})
		if err != nil || result.Outcome != want || want == tcp.Connected && result.SYNs != syns {
			t.Errorf("%v, %v, want %s after %d SYNs", result, err, want, syns)
		}
		return uint64(result.SYNs)
	}
	drop := func(change func(*topo.Drop)) *lab.Drops {
		t.Helper()
		drops, err := l.Drop(atGateway(change))
		if err != nil {
			t.Fatal(err)
		}
		return drops
	}
	dropped := func(d *lab.Drops, want uint64) {
		t.Helper()
		if n, err := d.Dropped(); err != nil || n != want {
			t.Errorf("dropped %d, %v, want %d", n, err, want)
		}
	}
	byHand := drop(nil)
	sent := connect(tcp.TimedOut, 0)
	dropped(byHand, sent)
	if byHand.Ended() {
		t.Error("ended by itself")
	}
	if err := errors.Join(byHand.End(), byHand.End(), byHand.Await(t.Context())); err != nil {
		t.Error(err)
	}
	connect(tcp.Connected, 1)
	dropped(byHand, sent)

	byTime := drop(func(d *topo.Drop) { d.From, d.For = "client0", 500*time.Millisecond })
	connect(tcp.Connected, 2) // the second SYN comes after a second (TCP_TIMEOUT_INIT)
	if err := byTime.Await(t.Context()); err != nil || !byTime.Ended() {
		t.Error(err)
	}
	dropped(byTime, 1)

	elsewhere := drop(func(d *topo.Drop) { d.From = "balancer" })
	connect(tcp.Connected, 1)
	dropped(elsewhere, 0)

	withLab := drop(func(d *topo.Drop) { d.First = 1 })
	connect(tcp.Connected, 2)
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := withLab.Dropped(); !withLab.Ended() || err == nil || !strings.Contains(err.Error(), "the lab was closed meanwhile") {
		t.Errorf("after the lab: %v", err)
	}
	if err := withLab.End(); err != nil {
		t.Errorf("end after the lab: %v", err)
	}
}

// Who waits for an end that does not come is told what is missing.
func TestFaultThatDoesNotEnd(t *testing.T) {
	l, listening := faultLab(t, 1)
	soon := func() context.Context {
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		t.Cleanup(stop)
		return ctx
	}
	for want, change := range map[string]func(*topo.Drop){
		`the drop of "-p tcp --syn" at gateway has not ended: it lasts until End is called: context deadline exceeded`: func(*topo.Drop) {},
		`has not ended: it lasts for 1h0m0s: context deadline exceeded`:                                                func(d *topo.Drop) { d.For = time.Hour },
		`context deadline exceeded: 1 packets dropped so far`:                                                          func(d *topo.Drop) { d.First = 2 },
	} {
		drops, err := l.Drop(atGateway(change))
		if err != nil {
			t.Fatal(err)
		}
		attempt := tcp.Attempt{To: listening.Addr, Budget: 100 * time.Millisecond} // one SYN
		if _, err := l.Client(0).Connect(t.Context(), attempt); err != nil {
			t.Fatal(err)
		}
		if err := drops.Await(soon()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := drops.End(); err != nil {
			t.Error(err)
		}
	}
	drops, err := l.Drop(atGateway(func(d *topo.Drop) { d.First, d.For = 2, 100*time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	if err := drops.Await(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended after 100ms with 0 packets dropped: no more came") {
		t.Errorf("first packets that do not come: %v", err)
	}
}

// An end that fails is told by the fault and, when nobody waited for it, by the lab.
func TestFaultThatCannotEnd(t *testing.T) {
	privileged(t)
	l, err := lab.Build(t.Context(), lab.Topology{Clients: 1})
	if err != nil {
		t.Fatal(err)
	}
	inside, err := l.Inside("balancer")
	if err != nil {
		t.Fatal(err)
	}
	var drops *lab.Drops
	// Until its rule is away before its time is over.
	for lasts := 200 * time.Millisecond; lasts < time.Minute; lasts *= 2 {
		if drops, err = l.Drop(topo.Drop{Node: "balancer", Table: "filter", Chain: "INPUT", For: lasts}); err != nil {
			t.Fatal(err)
		}
		if err := inside(func() error { return exec.CommandContext(t.Context(), "iptables", "-F", "INPUT").Run() }); err != nil {
			t.Fatal(err)
		}
		if drops.Await(t.Context()) != nil {
			break
		}
	}
	const want = "end the drop of every packet at balancer: iptables -t filter -D INPUT"
	for name, err := range map[string]error{"await": drops.Await(t.Context()), "end": drops.End(), "close": l.Close()} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// A drop that cannot be is refused whole, and leaves nothing.
func TestDropThatCannotBe(t *testing.T) {
	l, _ := faultLab(t, 1)
	for want, d := range map[string]topo.Drop{
		`no node "nobody" in this lab`: {Node: "nobody", Table: "raw", Chain: "OUTPUT"},
		"--no-such-match":              atGateway(func(d *topo.Drop) { d.Match = "--no-such-match" }),
		`no link to "server0"`:         atGateway(func(d *topo.Drop) { d.From = "server0" }),
	} {
		if _, err := l.Drop(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", d, err, want)
		}
	}
	if rules, err := l.Gateway().Rules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("left over: %v, %v", rules, err)
	}
}

// A link comes up by itself, and by hand; a fault that is under way goes with the lab.
func TestFlap(t *testing.T) {
	l := labtest.BuildNetwork(t, topo.Network{
		Nodes: []topo.Node{{Identity: topo.Identity{Name: "client0", Role: topo.Client}}, {Identity: topo.Identity{Name: "balancer", Role: topo.Balancer}}},
		Links: []topo.Link{{Outer: "client0", Inner: "balancer"}},
	})
	listening := listenOn(t, l.Balancer(), tcp.ListenSpec{})
	want := func(when string, outcome tcp.Outcome) {
		t.Helper()
		result, err := l.Client(0).Connect(t.Context(), tcp.Attempt{To: listening.Addr})
		if err != nil || result.Outcome != outcome {
			t.Errorf("%s: %v, %v, want %s", when, result, err, outcome)
		}
	}
	for _, down := range []time.Duration{0, 500 * time.Millisecond, time.Hour} {
		flap, err := l.Flap(t.Context(), "client0", down)
		if err != nil {
			t.Fatal(err)
		}
		want("down", tcp.Unreachable)
		if down == 500*time.Millisecond {
			err = flap.Await(t.Context())
		} else {
			err = flap.End()
		}
		if err != nil {
			t.Error(err)
		}
		want("up again", tcp.Connected)
	}
	if _, err := l.Flap(t.Context(), "client0", time.Hour); err != nil {
		t.Error(err)
	}
	for want, down := range map[string]time.Duration{"flap of link nobody for -1s: want more than 0": -time.Second, `"nobody"`: 0} {
		if _, err := l.Flap(t.Context(), "nobody", down); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
