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
	all := situation.LoadTellers()
	none := situation.ByTheSteps // there is no TIME_WAIT
	all[situation.RefusedBy(situation.ByClock)], all[situation.RefusedBy(situation.ByNumber)] = none, none
	return situation.Told{Steps: steps, Evidence: all}, nil
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
