package nat

import (
	"errors"
	"fmt"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// refusalTell tells a cell of the family, unless TIME_WAITs refuse: a load has no clocks, and no
// sequence numbers of its own.
func refusalTell(c claim.Cell) (situation.Told, error) {
	var steps situation.Steps
	switch c.Value(refusalBy) {
	case situation.ByClock, situation.ByNumber, byThree:
		return situation.Told{}, errors.New("no step sets the clock or the sequence number of each connection of a load")
	case situation.ByEndpoint: // nobody listens
	case situation.ByQueue:
		fullQueue(&steps)
	default:
		steps.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	}
	steps.As("load", script.Load{
		From: script.Endpoint{Name: "clients"}, To: vip, Each: refusalEach, InFlight: refusalClients * refusalEach, Then: script.ThenKeep,
	})
	outcome := func(name string) situation.Teller {
		return func(e claim.Expectation, to *[]script.Expectation) bool { return tellOutcome(name, e, to) }
	}
	none := situation.ByTheSteps // what has another outcome, or is counted at another place
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		"connected": outcome("Connected"), "timed out": outcome("TimedOut"),
		"late":                                  tellLate,
		situation.RefusedBy(situation.ByClient): outcome("NoPort"),
		situation.RefusedBy(situation.ByEndpoint): outcome("Refused"),
		situation.RefusedBy(situation.ByGateway):  situation.AsCounter("gateway", "Conntrack.insert_failed"),
		situation.RefusedBy(situation.ByQueue):    situation.AsCounter("balancer", "TcpExt.ListenOverflows"),
		situation.RefusedBy(situation.ByClock):    none, situation.RefusedBy(situation.ByNumber): none, // there is no TIME_WAIT
	}}, nil
}

// fullQueue listens and fills the accept queue, one connection after the other, as fillQueue does.
func fullQueue(to *situation.Steps) {
	never, backlog := 0, refusalQueue-1
	to.Do(script.Listen{Node: "balancer", Port: vip.Port, Accept: &never, Backlog: &backlog})
	for i := range refusalQueue {
		to.As(fmt.Sprintf("fill%d", i), script.Connect{From: script.Endpoint{Name: "client0"}, To: vip, Then: script.ThenKeep}, script.Expectation{
			Outcome: "Connected",
			Sockets: []script.SocketCount{{
				Node: "balancer", State: string(observe.Established), Local: vip, Count: script.Exactly(int64(i + 1)),
			}},
		})
	}
}

// tellOutcome expects a number of attempts with an outcome.
func tellOutcome(name string, e claim.Expectation, to *[]script.Expectation) bool {
	bound, said := situation.BoundOf(e)
	first := &(*to)[0]
	if first.Outcomes == nil {
		first.Outcomes = map[string]script.Bound{}
	}
	first.Outcomes[name] = bound
	return said
}

func tellLate(e claim.Expectation, to *[]script.Expectation) bool {
	bound, said := situation.BoundOf(e)
	(*to)[0].Late = &bound
	return said
}
