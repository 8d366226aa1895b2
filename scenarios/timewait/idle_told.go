package timewait

import (
	"errors"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// idleTell tells a cell of the family: what longIdle does in Go, as steps.
func idleTell(c claim.Cell) (situation.Told, error) {
	if c.Is(idle, days) {
		return situation.Told{}, errors.New("a step of a file lasts a day at most")
	}
	var t situation.Steps
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	first := script.Endpoint{Name: "client0", Port: situation.SourcePort}
	t.As(stepFirst, keeps(first, 0), situation.Connects()...)
	if c.Is(idleState, idleTimeWait) {
		return idleAfterTimeWait(c, t, first), nil
	}
	client, server := script.Conn{Step: stepFirst}, script.Conn{Step: stepFirst, Server: true}
	t.Do(script.Send{Conn: client, Bytes: 1})
	t.Do(script.Receive{Conn: server, Bytes: 1})
	t.Do(script.Sleep{For: idleTime(c)})
	idled := len(t) - 1
	if c.Is(idleClock, putBack) {
		t.Do(script.Clock{Conn: client, Back: idleTime(c) + time.Duration(situation.ClockLead)*time.Millisecond})
	}
	t.Do(script.Send{Conn: client, Bytes: 1})
	sent := len(t) - 1
	t.Do(script.Receive{Conn: server, Bytes: 1, Within: 5 * time.Second}) // the segment is repeated after 0.2, 0.6 and 1.4 s
	return situation.Told{Steps: t, Evidence: map[string]situation.Teller{
		"looks": situation.ByTheSteps,
		"left": t.At(idled, func(e claim.Expectation, to *[]script.Expectation) bool {
			(*to)[0].Sockets = situation.Has("balancer", e.OneOf[0], vip, first)[0].Sockets
			return true
		}),
		"segment": func(e claim.Expectation, to *[]script.Expectation) bool {
			received := script.Exactly(1)
			if e.OneOf[0] == "rejected" {
				received = script.Exactly(0)
			}
			(*to)[0].Received = &received
			return true
		},
		"balancer " + kernel.PAWSEstablished.Name: func(e claim.Expectation, to *[]script.Expectation) bool {
			tell := situation.AsCounter("balancer", kernel.PAWSEstablished.Name)
			if e.Most == 0 { // the first segment, too
				t.At(sent, tell)(e, nil)
			}
			return tell(e, to)
		},
	}}, nil
}

// idleAfterTimeWait closes the connection, and makes another one from its port after the idle time.
func idleAfterTimeWait(c claim.Cell, t situation.Steps, first script.Endpoint) situation.Told {
	part(&t, false, first, first)
	t.Do(script.Sleep{For: idleTime(c)})
	idled := len(t) - 1
	t.As(stepSecond, keeps(first, 0))
	return situation.Told{Steps: t, Evidence: map[string]situation.Teller{
		"left": t.At(idled, func(_ claim.Expectation, to *[]script.Expectation) bool {
			(*to)[0].Sockets = situation.Gone("balancer", vip, first)[0].Sockets
			return true
		}),
	}}
}
