package nat

import (
	"errors"
	"fmt"
	"time"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The steps of a gateway whose ports are used up.
const (
	stepAll   = "all"   // a connection on each port
	stepAgain = "again" // the same once more
)

// usedUpSteps makes the steps of a gateway whose ports are used up, and used again.
type usedUpSteps struct {
	clients, ports int
	timeout        time.Duration // how long the gateway keeps an entry
	isn            uint32
	idled          int // the step after which the entries have expired
	situation.Steps
}

// shareTell tells a cell of the family: what driveShare does in Go, as steps.
func shareTell(c claim.Cell) (situation.Told, error) {
	if c.Is(shareClocks, clocksHost) {
		return situation.Told{}, errors.New("no step sets the clock of each connection of a host")
	}
	t := usedUpSteps{clients: shareHosts, ports: shareSYNs, timeout: time.Duration(c.Number(shareTimeout)) * time.Second}
	t.useUp()
	t.expire()
	t.again()
	told := situation.Told{Steps: t.Steps, Evidence: t.evidence()}
	if stamps := !c.Is(shareClocks, clocksNone) && !c.Is(shareBalancerTS, "0"); stamps {
		told.Evidence["refused"] = situation.TellPAWS
	}
	return told, nil
}

// profileTell tells a cell of the family: what Profile does in Go, as steps.
func profileTell(c claim.Cell) (situation.Told, error) {
	p := profileOf(c)
	if p.PerClient {
		return situation.Told{}, errors.New("no key of the usual network gives each client a block of ports")
	}
	if c.Either(profilePhase, phaseStanding, phaseAgain) {
		return profileStanding(), nil
	}
	t := usedUpSteps{clients: profileClients, ports: profilePorts, timeout: p.Timeout, isn: p.isn()}
	t.useUp()
	within := len(t.Steps)
	t.As("within", script.Connect{From: script.Endpoint{Name: "clients", Port: profileNewPort}, To: vip, ISN: t.isn, Then: script.ThenReset})
	t.expire()
	t.again()
	told := situation.Told{Steps: t.Steps, Evidence: t.evidence()}
	told.Evidence["connected within the timeout"] = t.At(within, situation.TellOutcomes(tcp.Connected))
	told.Evidence["refused after the timeout"] = situation.TellPAWS
	return told, nil
}

// profileStanding lets one client and then the others make connections that stay open.
func profileStanding() situation.Told {
	var t situation.Steps
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	for i := range profileClients {
		each := profileOthers / (profileClients - 1)
		if i == 0 {
			each = profileGreedy
		}
		name := fmt.Sprintf("client%d", i)
		t.As(name, script.Load{From: script.Endpoint{Name: name}, To: vip, Each: each, Then: script.ThenKeep})
	}
	evidence := situation.LoadTellers()
	evidence["greedy connected"] = t.At(1, situation.TellOutcomes(tcp.Connected))
	return situation.Told{Steps: t, Evidence: evidence}
}

// useUp makes a connection on each port, and ends all of them, the balancer first.
func (t *usedUpSteps) useUp() {
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.ServeHTTP, Web: script.Web{Last: 1}})
	all := script.Exactly(int64(t.ports))
	t.As(stepAll, script.Connect{From: script.Endpoint{Name: "clients"}, To: vip, Count: t.ports / t.clients, ISN: t.isn, Then: script.ThenKeep},
		script.Expectation{Outcomes: map[string]script.Bound{string(tcp.Connected): all}})
	t.Do(script.Exchange{Conn: stepAll, Then: script.ThenCloseAfter}, script.Expectation{
		Dispositions: map[string]script.Bound{"whole": all},
		Sockets:      []script.SocketCount{{Node: "balancer", State: string(observe.TimeWait), Local: vip, Count: all}},
	})
}

// expire waits until the gateway has no entry of the connections any more.
func (t *usedUpSteps) expire() {
	t.idled = len(t.Steps)
	t.Do(script.Sleep{For: t.timeout}, script.Expectation{
		Within: 5 * time.Second, Flows: []script.FlowCount{{Node: "gateway", Flow: script.Flow{To: vip}, Count: script.Exactly(0)}},
	})
}

// again makes a connection on each port, which stays open.
func (t *usedUpSteps) again() {
	t.As(stepAgain, script.Load{From: script.Endpoint{Name: "clients"}, To: vip, Each: t.ports / t.clients, InFlight: t.ports, Then: script.ThenKeep})
}

// evidence says what the families note in the words of files.
func (t *usedUpSteps) evidence() map[string]situation.Teller {
	all := situation.LoadTellers()
	left := script.SocketCount{Node: "balancer", State: string(observe.TimeWait), Local: vip}
	all[situation.LoadTimeWaits.Name] = t.At(t.idled, situation.AsSockets(left))
	return all
}
