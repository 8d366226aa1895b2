package timewait

import (
	"errors"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// uptimesSteps makes the steps of a cell: connections of a first client, each followed by a try of the
// second one.
type uptimesSteps struct {
	first, second string
	sameTuple     bool
	tries         []int // the steps of the second client
	situation.Steps
}

// uptimesTell tells a cell of the family as steps: what twoAges does in Go, but that the first client
// connects before each try of the second one, and not meanwhile.
func uptimesTell(c claim.Cell) (situation.Told, error) {
	if c.Either(tries, many, few) {
		return situation.Told{}, errors.New("no step lets a client connect for as long as another one tries")
	}
	t := uptimesSteps{first: "client0", second: "client1"}
	if c.Either(next, older, younger) {
		t.first, t.second = t.second, t.first
	}
	switch c.Value(memory) {
	case uptimesRecycle:
		t.recycle("1")
	case uptimesTimeWait:
		t.sameTuple = true
	case recycleOff:
		t.recycle("0")
	}
	t.Do(script.Listen{Node: string(lab.Balancer), Port: vip.Port, Serve: script.Hold})
	for i := range uint16(fewTries) {
		t.visit(i, c.Is(uptimesCloser, uptimesClient))
		t.try(i)
	}
	return situation.Told{Steps: t.Steps, Client: t.second, Evidence: t.evidence()}, nil
}

// fewTries is how often the second client tries.
const fewTries = 3

// recycle sets the balancer's tcp_tw_recycle, where its kernel has it.
func (t *uptimesSteps) recycle(value string) {
	t.Steps = append(t.Steps, script.Step{
		When: script.Condition{At: string(lab.Balancer), Feature: string(kernel.TwRecycle)},
		Do:   script.Set{Node: string(lab.Balancer), Sysctls: []script.Sysctl{{Name: "net.ipv4.tcp_tw_recycle", Value: value}}},
	})
}

// visit is one connection of the first client, which one side closes first.
func (t *uptimesSteps) visit(i uint16, byClient bool) {
	id := fmt.Sprintf("visit%d", i)
	from := script.Endpoint{Name: t.first, Port: situation.SourcePort + i}
	t.As(id, keeps(from, 0), situation.Connects()...)
	one, other := script.Conn{Step: id, Server: true}, script.Conn{Step: id}
	if byClient {
		one, other = other, one
	}
	t.Do(script.HalfClose{Conn: one})
	t.Do(script.Receive{Conn: other})
	t.Do(script.Close{Conn: other})
	t.Do(script.Receive{Conn: one})
	t.Do(script.Close{Conn: one})
	if t.sameTuple {
		forget(&t.Steps, from)
	}
}

// try is one try of the second client. Its connection is reset at once, so that nothing is remembered
// of it.
func (t *uptimesSteps) try(i uint16) {
	from := script.Endpoint{Name: t.second, Port: secondPort + i}
	if t.sameTuple {
		from.Port = situation.SourcePort + i
	}
	// Of ticks of up to 10 ms, the next one is later.
	connect := keeps(from, 0)
	connect.Then = script.ThenReset
	t.tries = append(t.tries, len(t.Steps))
	t.After(situation.TickAtMost, fmt.Sprintf("try%d", i), connect)
}

// evidence says what the family notes of all tries in the words of files: each of them.
func (t *uptimesSteps) evidence() map[string]situation.Teller {
	each := func(tell situation.Teller) situation.Teller {
		return func(e claim.Expectation, to *[]script.Expectation) (said bool) {
			for _, step := range t.tries {
				said = t.At(step, tell)(e, to)
			}
			return said
		}
	}
	// What is counted of all tries is expected of each in equal parts.
	part := func(tell situation.Teller) situation.Teller {
		return each(func(e claim.Expectation, to *[]script.Expectation) bool {
			e.Least /= int64(len(t.tries))
			return tell(e, to)
		})
	}
	took := func(e claim.Expectation, to *[]script.Expectation) bool {
		bound, said := situation.BoundOf(e)
		(*to)[0].Took = &bound
		return said
	}
	all := map[string]situation.Teller{
		situation.PAWSRejectsEvidence.Name: part(situation.TellPAWS), situation.PassiveRejectsEvidence.Name: part(tellPassive),
		"soonest ms": each(took), "latest ms": each(took),
		"reset": each(func(e claim.Expectation, to *[]script.Expectation) bool { return tellReset(e, to, t.second) }),
	}
	all[situation.OutcomeEvidence.Name] = each(situation.TellOutcome)
	all[situation.AnswersEvidence.Name] = each(situation.TellAnswers)
	return all
}
