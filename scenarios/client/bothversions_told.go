package client

import (
	"time"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The only client and the only balancer, as files name them.
const (
	theClient   = "client0"
	theBalancer = "balancer"
)

// bothTell tells a cell of the family: what bothRun does in Go, as steps.
func bothTell(c claim.Cell) (situation.Told, error) { return bothSysctlOf(c).tell(), nil }

// listened begins with a listener whose connections are left to later steps.
func listened() (steps situation.Steps) {
	steps.Do(script.Listen{Node: theBalancer, Port: vip.Port, Serve: script.Hold})
	return steps
}

func tellPlain() situation.Told {
	steps := listened()
	steps.As(stepFirst, keeps(script.Endpoint{Name: theClient}, vip))
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		situation.TimestampsEvidence.Name: situation.TellTimestamps,
		"port in the range": func(e claim.Expectation, to *[]script.Expectation) bool {
			narrow := script.Endpoint{Name: theClient, Port: narrowPort}
			if e.OneOf[0] == claim.YesNo(true) {
				(*to)[0].Local = narrow
			} else {
				(*to)[0].Sockets = situation.Gone(theClient, narrow, script.Endpoint{})[0].Sockets
			}
			return true
		},
	}}
}

func tellUnanswered() situation.Told {
	var steps situation.Steps
	steps.As(stepFirst, keeps(script.Endpoint{Name: theClient}, vip))
	return situation.Told{Steps: steps}
}

// tellClientCloses expects the timer of the client's FIN_WAIT2: of a second more at most, if it is
// short.
func tellClientCloses() situation.Told {
	const limit = shortFin + time.Second
	steps := listened()
	steps.As(stepFirst, keeps(script.Endpoint{Name: theClient}, vip), situation.Connects()...)
	steps.Do(script.Close{Conn: script.Conn{Step: stepFirst}})
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		situation.OutcomeEvidence.Name: situation.ByTheSteps,
		"FIN_WAIT2": func(e claim.Expectation, to *[]script.Expectation) bool {
			expires := script.AtMost(limit.Milliseconds())
			if e.OneOf[0] == "longer" {
				expires = script.AtLeast(limit.Milliseconds() + 1)
			}
			(*to)[0].Sockets = append((*to)[0].Sockets, script.SocketCount{
				Node: theClient, State: string(observe.FinWait2), Remote: vip, Expires: &expires, Count: script.Exactly(1),
			})
			return true
		},
	}}
}

func tellTimeWait() situation.Told {
	steps := listened()
	steps.As(stepFirst, keeps(script.Endpoint{Name: theClient}, vip), situation.Connects()...)
	steps.Do(script.HalfClose{Conn: script.Conn{Step: stepFirst}}, situation.Has(theClient, string(observe.FinWait2), script.Endpoint{}, vip)...)
	steps.Do(script.Close{Conn: script.Conn{Step: stepFirst, Server: true}})
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		situation.ClientWaits.Name: situation.AsSockets(script.SocketCount{Node: theClient, State: string(observe.TimeWait), Remote: vip}),
	}}
}

// tellPortAgain is what family exhaustion tells of an old TIME_WAIT.
func tellPortAgain() situation.Told {
	t := exhaustionSteps{server: theBalancer, inside: theClient, outside: theClient, to: vip, port: AutoPort, Steps: listened()}
	t.As(stepFirst, t.connect(), situation.Connects()...)
	t.end(ClientCloses, false)
	t.After(situation.OldReuseDelay+situation.AgingSlack, stepSecond, t.connect())
	return situation.Told{Steps: t.Steps, Sysctls: onlyPort()}
}

func tellFullQueue() situation.Told {
	one := 1
	var steps situation.Steps
	steps.Do(script.Listen{Node: theBalancer, Port: vip.Port, Backlog: &one})
	steps.Do(script.Connect{From: script.Endpoint{Name: theClient}, To: vip, Count: queueAttempts, GiveUp: queueBudget})
	return situation.Told{Steps: steps}
}
