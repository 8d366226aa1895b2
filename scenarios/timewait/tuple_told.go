package timewait

import (
	"errors"
	"fmt"
	"time"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The names of the steps.
const (
	stepProbe  = "probe"
	stepFirst  = "first"
	stepSecond = "second"
)

// vip is where the balancer listens.
var vip = script.Endpoint{Name: "vip", Port: 80}

// tupleTell tells a cell of the family: what FiveTuple does in Go, as steps.
func tupleTell(c claim.Cell) (situation.Told, error) {
	t := tupleSteps{
		left: situation.Left(c.Value(tupleState)), clock: situation.Order(c.Value(tupleClock)),
		first: "client0", second: "client0", outside: "gateway",
		stamps: !c.Is(tupleClientTS, "0") && !c.Is(tupleBalancerTS, "0"),
	}
	if c.Is(tupleSecond, "other-host") {
		t.second = "client1"
	}
	if c.Is(tupleSecond, "direct") {
		t.outside = t.first
	}
	// The clocks of two hosts differ by an offset that nobody knows.
	t.offset = c.Is(tupleClientTS, "1") && t.first != t.second
	switch {
	case t.stamps && t.clock == situation.Equal:
		return situation.Told{}, errors.New("no step meets one exact tick of a clock")
	case t.stamps && t.clock == situation.Wrapped:
		return situation.Told{}, errors.New("no step knows when a clock passes 2^32")
	}
	t.listen()
	t.leave()
	if err := t.fault(situation.Fault(c.Value(tuplePath))); err != nil {
		return situation.Told{}, err
	}
	var hurry situation.Hurry
	second := keeps(t.port(t.second), t.isn(situation.Order(c.Value(isn))))
	if t.left == situation.LeftChallenged {
		t.knock(second)
		hurry = situation.Hurry{From: len(t.Steps) - 2, To: len(t.Steps) - 1, Within: situation.LimitOver - 2*situation.TickAtMost}
	} else {
		t.After(t.pause(), stepSecond, second)
	}
	return situation.Told{Steps: t.Steps, Client: t.second, Hurry: hurry, Evidence: map[string]situation.Teller{
		"reset": func(e claim.Expectation, to *[]script.Expectation) bool { return tellReset(e, to, t.second) },
		"left after": func(e claim.Expectation, to *[]script.Expectation) bool {
			return tellLeft(e, to, t.port(t.outside))
		},
	}}, nil
}

// tellReset expects that the client sends no RST, or at least one: where it ends, files cannot
// say.
func tellReset(e claim.Expectation, to *[]script.Expectation, client string) bool {
	if e.OneOf[0] != "none" {
		return false
	}
	situation.SetCounter(&(*to)[0], client, "Tcp.OutRsts", script.Exactly(0))
	return true
}

// tellLeft expects a state of the first connection at the balancer.
func tellLeft(e claim.Expectation, to *[]script.Expectation, outside script.Endpoint) bool {
	wanted := situation.Has("balancer", e.OneOf[0], vip, outside)
	if e.OneOf[0] == "nothing" {
		wanted = situation.Gone("balancer", vip, outside)
	}
	(*to)[0].Sockets = append((*to)[0].Sockets, wanted[0].Sockets...)
	return true
}

// tupleSteps makes the steps of a cell.
type tupleSteps struct {
	left          situation.Left
	clock         situation.Order
	first, second string // the clients
	outside       string // whose address the balancer sees
	stamps        bool   // the connections have timestamps
	offset        bool   // the clocks of the clients differ
	situation.Steps
}

func (t *tupleSteps) port(of string) script.Endpoint {
	return script.Endpoint{Name: of, Port: situation.SourcePort}
}

// pause is the time before the second connection: a tick of the clock, or the time in which the
// balancer answers no further segment (tcp_invalid_ratelimit).
func (t *tupleSteps) pause() time.Duration {
	if t.stands() && t.steered() {
		return situation.LimitOver
	}
	return situation.TickAtMost
}

// stands tells whether the first connection stays established.
func (t *tupleSteps) stands() bool {
	return t.left == situation.LeftEstablished || t.left == situation.LeftChallenged
}

// knock makes an earlier attempt whose answer, a challenge ACK, is lost on the path, and the second
// connection while the balancer sends no other one.
func (t *tupleSteps) knock(second script.Connect) {
	t.Do(script.AddRule{Node: "gateway", Table: "filter", Chain: "FORWARD", Spec: ackTo + " -m statistic --mode nth --every 1000 --packet 0 -j DROP"})
	early := second
	early.GiveUp = 100 * time.Millisecond
	t.After(t.pause(), "early", early)
	t.As(stepSecond, second)
}

// ackTo matches the balancer's bare ACKs to the clients' port.
var ackTo = fmt.Sprintf("-i balancer -p tcp --dport %d --tcp-flags SYN,RST,FIN,ACK ACK", situation.SourcePort)

// steered tells whether the clock of the first connection is set.
func (t *tupleSteps) steered() bool {
	return t.stamps && (t.clock == situation.Older || t.offset)
}

func (t *tupleSteps) isn(o situation.Order) uint32 {
	return situation.FiveTupleRun{FiveTuple: situation.FiveTuple{Left: t.left, ISN: o}}.SecondISN()
}

// listen opens the listener and, where the clocks differ, makes a connection of the second client
// by which its clock is known.
func (t *tupleSteps) listen() {
	t.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	if !t.stamps || !t.offset {
		return
	}
	probe(&t.Steps, t.port(t.second), t.port(t.outside))
	forget(&t.Steps, t.port(t.second))
}

// keeps is a connection to the balancer that stays open.
func keeps(from script.Endpoint, isn uint32) script.Connect {
	return script.Connect{From: from, To: vip, ISN: isn, Then: script.ThenKeep, Options: script.Options{ReuseAddr: true}}
}

// probe makes a connection, by which the clock of that client is known, and ends it without a
// trace at the balancer.
func probe(to *situation.Steps, from, outside script.Endpoint) {
	to.As(stepProbe, keeps(from, 0), situation.Connects()...)
	to.Do(script.Reset{Conn: script.Conn{Step: stepProbe}})
	to.Do(script.Close{Conn: script.Conn{Step: stepProbe, Server: true}}, situation.Gone("balancer", vip, outside)...)
}

// forget deletes the gateway's entry of a client's connection.
func forget(to *situation.Steps, from script.Endpoint) {
	one := script.Exactly(1)
	to.Do(script.ForgetFlows{Node: "gateway", Flow: script.Flow{From: from}}, script.Expectation{Forgotten: &one})
}

// leave makes the first connection and leaves its state at the balancer.
func (t *tupleSteps) leave() {
	t.As(stepFirst, keeps(t.port(t.first), situation.FirstISN), situation.Connects()...)
	t.steer()
	client, server := script.Conn{Step: stepFirst}, script.Conn{Step: stepFirst, Server: true}
	if !t.stands() {
		t.Do(script.Close{Conn: server}, situation.Has("balancer", string(observe.FinWait2), vip, t.port(t.outside))...)
	}
	switch {
	case t.left == situation.LeftTimeWait || t.left == situation.LeftNothing:
		t.Do(script.Receive{Conn: client})
		t.Do(script.Close{Conn: client}, situation.Has("balancer", string(observe.TimeWait), vip, t.port(t.outside))...)
	case t.first == t.second:
		t.Do(script.Vanish{Conn: client})
	}
	if t.left == situation.LeftNothing {
		gone := situation.Gone("balancer", vip, t.port(t.outside))
		gone[0].Within = situation.TimeWaitLength + 5*time.Second
		t.Do(script.Sleep{For: situation.TimeWaitLength}, gone...)
	}
	if t.first != t.second {
		forget(&t.Steps, t.port(t.first))
	}
}

// steer sets the clock of the first connection so that the second one is older or newer.
func (t *tupleSteps) steer() {
	if !t.steered() {
		return
	}
	set := script.Clock{Conn: script.Conn{Step: stepFirst}, Advance: time.Duration(situation.ClockLead) * time.Millisecond}
	switch {
	case t.offset && t.clock == situation.Older:
		set.Beyond = stepProbe
	case t.offset:
		set.Behind = stepProbe
	}
	t.Do(set)
	if !t.offset && t.stands() { // nothing else tells the balancer
		t.Do(script.Send{Conn: script.Conn{Step: stepFirst, Server: true}, Bytes: 1})
	}
}

// fault puts the fault on the path.
func (t *tupleSteps) fault(f situation.Fault) error {
	rst := fmt.Sprintf("-i %s -p tcp --sport %d --tcp-flags RST RST", t.second, situation.SourcePort)
	rule := script.AddRule{Node: "gateway", Table: "filter", Chain: "FORWARD"}
	switch f {
	case "clean":
		return nil
	case situation.DropsInvalid:
		rule.Spec = "-m conntrack --ctstate INVALID -j DROP"
	case situation.EatsRST:
		rule.Spec = rst + " -j DROP"
	case situation.UnNATedRST:
		rule.Table, rule.Chain, rule.Spec = "raw", "PREROUTING", rst+" -j CT --notrack"
	case situation.EatsACK:
		rule.Spec = ackTo + " -j DROP"
	default:
		return fmt.Errorf("no rule for the path %q", f)
	}
	t.Do(rule)
	return nil
}
