package timewait

import (
	"fmt"
	"time"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// stepHalf is the step whose connection only one side closes.
const stepHalf = "half"

// timerSlack is more than a timer of any kernel shows beyond its length (situation.TimerExtra).
const timerSlack = 300 * time.Millisecond

// lengthSteps makes the steps of a cell: one side closes first.
type lengthSteps struct {
	byClient bool
	situation.Steps
}

// lengthTell tells a cell of the family: what sides does in Go, as steps.
func lengthTell(c claim.Cell) (situation.Told, error) {
	t := lengthSteps{byClient: c.Either(lengthCloser, lengthClient, lengthLB)}
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	ended := t.timeWait()
	if c.Either(look, late, early) {
		return t.end(ended), nil
	}
	t.As(stepHalf, keeps(script.Endpoint{Name: "client0"}, 0), situation.Connects()...)
	t.Do(script.Close{Conn: t.closer(stepHalf)})
	t.Do(script.Sleep{For: time.Millisecond})
	told := situation.Told{Steps: t.Steps, Evidence: map[string]situation.Teller{
		"time-wait":        t.At(ended, t.timer(string(observe.TimeWait))),
		"fin-wait-2 lasts": t.timer(string(observe.FinWait2)),
		"peer":             situation.ByTheSteps, "at the end": situation.ByTheSteps,
	}}
	switch c.Value(fin) {
	case "1":
		told.Hurry = situation.Hurry{From: len(t.Steps) - 2, To: len(t.Steps) - 1, Within: time.Second / 2}
	case "5":
		told.Hurry = situation.Hurry{From: len(t.Steps) - 2, To: len(t.Steps) - 1, Within: time.Second}
	}
	return told, nil
}

// closer is the end that closes first, at is its node.
func (t *lengthSteps) closer(step string) script.Conn {
	return script.Conn{Step: step, Server: !t.byClient}
}

func (t *lengthSteps) at() string {
	if t.byClient {
		return "client0"
	}
	return "balancer"
}

// sockets counts the closer's sockets in a state.
func (t *lengthSteps) sockets(state string, n int64) script.SocketCount {
	one := script.SocketCount{Node: t.at(), State: state, Remote: vip, Count: script.Exactly(n)}
	if !t.byClient {
		one.Local, one.Remote = vip, script.Endpoint{}
	}
	return one
}

// timeWait closes a connection at both sides, and returns the index of the step after which the closer
// has a TIME_WAIT. The other side has nothing.
func (t *lengthSteps) timeWait() (ended int) {
	t.As(stepFirst, keeps(script.Endpoint{Name: "client0"}, 0), situation.Connects()...)
	other := script.Conn{Step: stepFirst, Server: t.byClient}
	node := "balancer"
	left := script.SocketCount{Node: node, Local: vip, Remote: script.Endpoint{Name: "client0"}, Count: script.Exactly(0)}
	if !t.byClient {
		left = script.SocketCount{Node: "client0", Remote: vip, Count: script.Exactly(0)}
	}
	t.Do(script.HalfClose{Conn: t.closer(stepFirst)}, script.Expectation{Sockets: []script.SocketCount{t.sockets(string(observe.FinWait2), 1)}})
	t.Do(script.Close{Conn: other}, script.Expectation{Sockets: []script.SocketCount{left}})
	return len(t.Steps) - 1
}

// end waits until the TIME_WAIT is gone, and connects again. It ended with a step.
func (t *lengthSteps) end(ended int) situation.Told {
	state := string(observe.TimeWait)
	before := -1
	if t.byClient {
		before = len(t.Steps)
		t.As("before", script.Connect{From: script.Endpoint{Name: "client0"}, To: vip, Then: script.ThenReset})
	}
	t.Do(script.Sleep{For: situation.TimeWaitLength - 5*time.Second}, script.Expectation{Sockets: []script.SocketCount{t.sockets(state, 1)}})
	// The timer fires up to an eighth late.
	t.Do(script.Sleep{For: time.Millisecond}, script.Expectation{
		Within: 5*time.Second + situation.TimeWaitLength/8 + time.Second, Sockets: []script.SocketCount{t.sockets(state, 0)},
	})
	t.As("after", script.Connect{From: script.Endpoint{Name: "client0"}, To: vip, Then: script.ThenReset})
	told := situation.Told{Steps: t.Steps, Evidence: map[string]situation.Teller{
		"time-wait":          t.At(ended, t.timer(state)),
		"outcome before":     situation.ByTheSteps, // of the balancer's TIME_WAIT nothing is asked
		"outcome afterwards": situation.TellOutcome,
		"ports taken over":   situation.AsCounter("client0", "TcpExt.TWRecycled"),
		"peer":               situation.ByTheSteps, "at the end": situation.ByTheSteps, "gone after": situation.ByTheSteps,
	}}
	if before >= 0 {
		told.Evidence["outcome before"] = t.At(before, situation.TellOutcome)
	}
	return told
}

// timer expects how long the timer of the closer's socket has still to run: no longer than its length,
// and a second longer than the next shorter length.
func (t *lengthSteps) timer(state string) situation.Teller {
	lengths := map[string]script.Bound{}
	low := int64(1)
	for _, length := range []time.Duration{time.Second, 5 * time.Second, situation.TimeWaitLength} {
		lengths[fmt.Sprintf("%.0f s", length.Seconds())] = script.Between(low, (length + timerSlack).Milliseconds())
		low = (length + time.Second).Milliseconds()
	}
	return func(e claim.Expectation, to *[]script.Expectation) bool {
		expires, known := lengths[e.OneOf[0]]
		one := t.sockets(state, 1)
		one.Expires = &expires
		(*to)[0].Sockets = append((*to)[0].Sockets, one)
		return known
	}
}
