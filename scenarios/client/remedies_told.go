package client

import (
	"fmt"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// remedySteps makes the steps of a cell.
type remedySteps struct {
	situation.Steps
	connecting []int // the steps that connect
	each       int   // how many attempts each of them makes
}

// remedyTell tells a cell of the family as steps. What remedyRun sends in Go is left out, but where
// data is unsent.
func remedyTell(c claim.Cell) (situation.Told, error) {
	t := remedySteps{each: remedyConnects}
	here := script.Endpoint{Name: theClient}
	listen := script.Listen{Node: theBalancer, Port: vip.Port}
	connect := script.Connect{From: here, To: vip, Then: script.ThenCloseFirst}
	switch kind := c.Value(remedy); kind {
	case "linger":
		if c.Either(unsent, "yes", "no") {
			t.lingerWithUnsent()
			return t.told(), nil
		}
		connect.Then = script.ThenReset
		t.connect(listen, connect)
	case "balancer-closes":
		listen.Serve, connect.Then = script.CloseFirst, script.ThenCloseAfter
		t.connect(listen, connect)
	case "more-ports", "more-addresses":
		other := script.Listen{Node: theBalancer, Port: vip.Port + 1}
		to := script.Endpoint{Name: vip.Name, Port: other.Port}
		if kind == "more-addresses" {
			other = script.Listen{Node: "server0", Port: vip.Port}
			to = script.Endpoint{Name: other.Node, Port: other.Port}
		}
		t.each = remedyConnects / 2
		t.connect(listen, connect)
		connect.To = to
		t.connect(other, connect)
	case "bind":
		t.each = 1
		t.Do(listen)
		for i := range remedyConnects {
			connect.From.Port, connect.Options.ReuseAddr = uint16(remedyFirstPort+i%remedyPorts), true
			t.attempt("", connect)
		}
	case "none", "wider-range": // a sysctl
		t.connect(listen, connect)
	}
	return t.told(), nil
}

// connect makes a listener, and attempts in turn.
func (t *remedySteps) connect(at script.Listen, x script.Connect) {
	t.Do(at)
	x.Count, x.InTurn = t.each, true
	t.attempt("", x)
}

func (t *remedySteps) attempt(id string, x script.Connect) {
	t.connecting = append(t.connecting, len(t.Steps))
	t.As(id, x)
}

// lingerWithUnsent resets each connection while the kernel has data of it that it has not sent.
func (t *remedySteps) lingerWithUnsent() {
	t.each = 1
	t.Do(script.Listen{Node: theBalancer, Port: vip.Port, Serve: script.Hold})
	for i := range remedyConnects {
		id := fmt.Sprintf("linger%d", i)
		t.attempt(id, keeps(script.Endpoint{Name: theClient}, vip))
		t.Do(script.Send{Conn: script.Conn{Step: id}, Bytes: unsentBytes})
		t.Do(script.Reset{Conn: script.Conn{Step: id}})
		t.Do(script.Receive{Conn: script.Conn{Step: id, Server: true}}, script.Expectation{Errno: "ECONNRESET"})
	}
}

// told is the cell, with what the family's evidence is in the words of files.
func (t *remedySteps) told() situation.Told {
	waiting := func(node string) situation.Teller {
		return situation.AsSockets(script.SocketCount{Node: node, State: string(observe.TimeWait)})
	}
	told := situation.Told{Steps: t.Steps, Evidence: map[string]situation.Teller{
		"connected": t.tellConnected, "no port": situation.ByTheSteps, "readers reset": situation.ByTheSteps,
		situation.ClientWaits.Name: waiting(theClient), "balancer TIME_WAIT": waiting(theBalancer),
	}}
	for _, one := range []struct {
		role    lab.Role
		counter string
	}{{lab.Balancer, "Tcp.EstabResets"}, {lab.Client, "Tcp.OutRsts"}, {lab.Client, "TcpExt.TWRecycled"}, {lab.Client, "TcpExt.TCPAbortOnData"}} {
		node := map[lab.Role]string{lab.Balancer: theBalancer, lab.Client: theClient}[one.role]
		told.Evidence[fmt.Sprintf("%s %s", one.role, one.counter)] = t.ofAll(situation.AsCounter(node, one.counter))
	}
	return told
}

// tellConnected expects that the first attempts connect, and that there is no port for the others.
func (t *remedySteps) tellConnected(e claim.Expectation, to *[]script.Expectation) bool {
	left := e.Least
	for _, step := range t.connecting {
		n := min(left, int64(t.each))
		left -= n
		t.At(step, func(_ claim.Expectation, to *[]script.Expectation) bool {
			switch first := &(*to)[0]; {
			case t.each > 1:
				first.Outcomes = map[string]script.Bound{string(tcp.Connected): script.Exactly(n), string(tcp.NoPort): script.Exactly(int64(t.each) - n)}
			case n > 0:
				first.Outcome = string(tcp.Connected)
			default:
				first.Outcome = string(tcp.NoPort)
			}
			return true
		})(e, to)
	}
	return true
}

// ofAll is a teller of how much a counter rises in all steps together: that it stands still is expected
// of each, and how much it rises only where one step does all.
func (t *remedySteps) ofAll(tell situation.Teller) situation.Teller {
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		if e.Most > 0 && len(t.connecting) > 1 {
			return false
		}
		for _, step := range t.connecting {
			t.At(step, tell)(e, to)
		}
		return true
	}
}
