package nat

import (
	"fmt"
	"time"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// vip is where the balancer listens.
var vip = script.Endpoint{Name: "vip", Port: 80}

// gatewaySteps makes the steps of a cell.
type gatewaySteps struct {
	cell    claim.Cell
	left    situation.Left
	earlier uint16          // how many earlier connections there are
	second  script.Endpoint // where the new one comes from
	situation.Steps
}

// gatewayTell tells a cell of the family: what portReuse does in Go, as steps.
func gatewayTell(c claim.Cell) (situation.Told, error) {
	t := gatewaySteps{cell: c, left: situation.Left(c.Value(gatewayLeft)), earlier: 1, second: script.Endpoint{Name: "client1", Port: situation.SourcePort}}
	if c.Is(gatewayPool, poolFew) {
		t.earlier = fewPorts
	}
	if c.Is(gatewayClient, "same") {
		t.second.Name = "client0"
	}
	if c.Is(gatewaySource, "other") {
		t.second.Port = otherPort
	}
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	t.open()
	ending := len(t.Steps)
	t.end()
	t.settle()
	meeting := len(t.Steps)
	t.meet()
	var hurry situation.Hurry
	if c.Is(gatewayEntry, "kept") && t.left == situation.LeftTimeWait {
		hurry = situation.Hurry{From: ending, To: meeting, Within: time.Duration(c.Number(gatewayTimeout))*time.Second - situation.AgingSlack}
	}
	return situation.Told{Steps: t.Steps, Hurry: hurry, Client: t.second.Name, Evidence: map[string]situation.Teller{"port": t.tellPort}}, nil
}

// name is the step of an earlier connection.
func (t *gatewaySteps) name(i uint16) string { return fmt.Sprintf("earlier%d", i) }

// open makes the earlier connections and sets their clocks.
func (t *gatewaySteps) open() {
	for i := range t.earlier {
		t.As(t.name(i), script.Connect{
			From: script.Endpoint{Name: "client0", Port: situation.SourcePort + i}, To: vip,
			ISN: situation.FirstISN, Then: script.ThenKeep, Options: script.Options{ReuseAddr: true},
		}, situation.Connects()...)
		if t.cell.Is(gatewayClock, string(situation.Older)) {
			t.Do(script.Clock{Conn: script.Conn{Step: t.name(i)}, Advance: time.Duration(situation.ClockLead) * time.Millisecond})
		}
	}
}

// end closes the sides that must close to leave the wanted state.
func (t *gatewaySteps) end() {
	for i := range t.earlier {
		client, server := script.Conn{Step: t.name(i)}, script.Conn{Step: t.name(i), Server: true}
		if t.left != situation.LeftEstablished {
			t.Do(script.Close{Conn: server}, situation.Has("balancer", string(observe.FinWait2), vip, script.Endpoint{})...)
			t.Do(script.Close{Conn: client})
		} else if t.second.Name == "client0" && t.second.Port == situation.SourcePort {
			t.Do(script.Vanish{Conn: client}) // or it could not connect again
		}
	}
}

// settle waits until the balancer and the gateway have processed the ends of the earlier
// connections, and until what must be over is over.
func (t *gatewaySteps) settle() {
	state := string(observe.TimeWait)
	if t.left == situation.LeftEstablished {
		state = string(observe.Established)
	}
	all := script.Exactly(int64(t.earlier))
	settled := script.Expectation{Sockets: []script.SocketCount{{Node: "balancer", State: state, Local: vip, Count: all}}}
	if !t.cell.Is(gatewayEntry, "expired") && !t.cell.Is(gatewayTimeout, "1") { // on a slow machine an entry of a second is gone by now
		settled.Flows = []script.FlowCount{{Node: "gateway", Flow: script.Flow{To: vip, State: state}, Count: all}}
	}
	t.Do(script.Sleep{For: situation.TickAtMost}, settled)
	if t.left == situation.LeftNothing {
		t.Do(script.Sleep{For: situation.TimeWaitLength - time.Second}, script.Expectation{
			Within: 5 * time.Second, Sockets: []script.SocketCount{{Node: "balancer", State: state, Local: vip, Count: script.Exactly(0)}},
		})
	}
	if t.cell.Is(gatewayEntry, "expired") {
		timeout := time.Duration(t.cell.Number(gatewayTimeout)) * time.Second
		t.Do(script.Sleep{For: timeout}, script.Expectation{
			Within: 5 * time.Second, Flows: []script.FlowCount{{Node: "gateway", Flow: script.Flow{To: vip}, Count: script.Exactly(0)}},
		})
	}
}

// meet makes the new connection.
func (t *gatewaySteps) meet() {
	isn := situation.FirstISN + 2 + situation.IsnGap
	if t.cell.Is(gatewayISN, string(situation.Older)) {
		isn = situation.FirstISN + 2 - situation.IsnGap
	}
	connect := script.Connect{From: t.second, To: vip, ISN: isn, Then: script.ThenKeep, Options: script.Options{ReuseAddr: true}}
	c := t.cell
	if c.Is(gatewayEntry, "kept") && c.Is(gatewayPool, poolOne) && c.Is(gatewaySource, "same") && c.Is(gatewayRandom, randomNo) &&
		t.left == situation.LeftTimeWait && c.Is(gatewayTimeout, "1") {
		// An expired entry goes when somebody lists the table: to wait for an entry lists it.
		t.Steps = append(t.Steps, script.Step{ID: "new", Background: true, Do: connect})
		t.Do(script.Sleep{For: time.Millisecond}, script.Expectation{
			Within: 10 * time.Second,
			Flows:  []script.FlowCount{{Node: "gateway", Flow: script.Flow{To: vip, State: string(observe.Established)}, Count: script.Exactly(1)}},
		})
		t.Do(script.Await{Step: "new"})
		return
	}
	t.As("new", connect)
}

// portKnown tells whether the earlier connections can only have had one port.
func (t *gatewaySteps) portKnown() bool {
	return t.cell.Is(gatewayPool, poolOne) || t.cell.Is(gatewayPool, poolAll) && t.cell.Is(gatewayRandom, randomNo)
}

// tellPort expects the entry of the new connection with the port that the gateway gives, where
// that can be known before.
func (t *gatewaySteps) tellPort(e claim.Expectation, to *[]script.Expectation) bool {
	entry := script.FlowCount{Node: string(topo.Gateway), Flow: script.Flow{From: t.second, To: vip}, Count: script.Exactly(1)}
	switch e.OneOf[0] {
	case portSame:
		if entry.As = (script.Endpoint{Name: string(topo.Gateway), Port: situation.SourcePort}); !t.portKnown() {
			return false
		}
	case portOwn:
		entry.As = script.Endpoint{Name: string(topo.Gateway), Port: t.second.Port}
	case portNone:
		entry.Count = script.Exactly(0)
	default:
		return false
	}
	(*to)[0].Flows = append((*to)[0].Flows, entry)
	return true
}
