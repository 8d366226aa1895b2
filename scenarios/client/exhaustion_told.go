package client

import (
	"errors"
	"fmt"
	"time"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// exhaustionTell tells a cell of the family: what SamePort does in Go, as steps.
func exhaustionTell(c claim.Cell) (situation.Told, error) {
	t := exhaustionSteps{server: "balancer", inside: "client0", outside: "client0", to: vip, port: Binding(c.Value(exhaustionPort))}
	listen := script.Listen{Serve: script.Hold}
	switch ListenerAt(c.Value(destination)) {
	case AtOwnAddress:
		t.server, t.to.Name = "client0", "client0"
	case AtLoopback:
		t.server, t.to.Name, t.inside, t.outside = "client0", script.Loopback, script.Loopback, script.Loopback
		listen.At = script.Endpoint{Name: script.Loopback}
	case AtMappedLoopback:
		return situation.Told{}, errors.New("no step connects by an IPv6 socket to an IPv4 address")
	case AtBalancer:
	}
	if c.Is(exhaustionPath, "nat") {
		t.outside = "gateway"
	}
	listen.Node, listen.Port = t.server, t.to.Port
	t.Do(listen)
	connecting := len(t.Steps)
	t.As(stepFirst, t.connect(), situation.Connects()...)
	ending := t.end(Closer(c.Value(closer)), c.Is(buckets, "exceeded"))
	t.After(exhaustionPause(c), "again", t.connect())
	var hurry situation.Hurry
	if c.Is(age, "younger") && c.Is(delay, "1000") {
		hurry = situation.Hurry{From: ending, To: len(t.Steps) - 1, Within: situation.DefaultReuseDelay - situation.AgingSlack}
	}
	return situation.Told{Steps: t.Steps, Sysctls: onlyPort(), Balancer: t.server, Hurry: hurry, Evidence: t.evidence(connecting, ending)}, nil
}

// onlyPort leaves the client one local port.
func onlyPort() lab.Settings {
	return lab.On(lab.Client, fmt.Sprintf("net.ipv4.ip_local_port_range=%[1]d %[1]d", situation.SourcePort))
}

// exhaustionPause is the time between the end of the first connection and the second one.
func exhaustionPause(c claim.Cell) time.Duration {
	switch {
	case c.Is(age, "older"): // also on kernels that do not have the sysctl
		return situation.OldReuseDelay + situation.AgingSlack
	case c.Is(delay, "60000"):
		return situation.DefaultReuseDelay + situation.AgingSlack
	default:
		return 0
	}
}

// exhaustionSteps makes the steps of a cell.
type exhaustionSteps struct {
	server  string // where the listener is
	inside  string // the client's address, as the client sees it
	outside string // the client's address, as the listener sees it
	to      script.Endpoint
	port    Binding
	situation.Steps
}

// connect is one connection from the client's only port.
func (t *exhaustionSteps) connect() script.Connect {
	x := script.Connect{From: script.Endpoint{Name: "client0"}, To: t.to, Then: script.ThenKeep}
	switch t.port {
	case AutoPort:
	case FixedPort, SharedPort:
		x.From.Port, x.Options.ReuseAddr = situation.SourcePort, t.port == SharedPort
	case EarlyPortOf:
		x.Options.EarlyPort = true
	case LatePortOf:
		x.Options.LatePort = true
	}
	return x
}

// The ends of the connection, as each side has them.
func (t *exhaustionSteps) here() script.Endpoint {
	return script.Endpoint{Name: t.inside, Port: situation.SourcePort}
}

func (t *exhaustionSteps) there() script.Endpoint {
	return script.Endpoint{Name: t.outside, Port: situation.SourcePort}
}

// end ends the first connection, and expects what it leaves. It returns the index of the step that
// does.
func (t *exhaustionSteps) end(by Closer, full bool) (step int) {
	client, server := script.Conn{Step: stepFirst}, script.Conn{Step: stepFirst, Server: true}
	one, other := client, server
	at, local, remote := "client0", t.here(), t.to
	switch by {
	case ClientResets:
		t.Do(script.Reset{Conn: client})
		step = len(t.Steps) - 1
		t.Do(script.Close{Conn: server}, append(situation.Gone("client0", t.here(), t.to), situation.Gone(t.server, t.to, t.there())...)...)
		return step
	case BalancerCloses:
		one, other = server, client
		at, local, remote = t.server, t.to, t.there()
	case ClientCloses:
	}
	t.Do(script.HalfClose{Conn: one}, situation.Has(at, string(observe.FinWait2), local, remote)...)
	if full && at == "client0" { // a socket with a port of its own is in CLOSE until it is closed
		t.Do(script.Close{Conn: other})
		t.Do(script.Close{Conn: one}, situation.Gone(at, local, remote)...)
		return len(t.Steps) - 2
	}
	t.Do(script.Close{Conn: other}, situation.Has(at, string(observe.TimeWait), local, remote)...)
	t.Do(script.Close{Conn: one})
	return len(t.Steps) - 2
}

// evidence says what the family notes in the words of files. What it notes of the first connection is
// expected of the step that makes it, and what moves when that ends of the step that ends it.
func (t *exhaustionSteps) evidence(connecting, ending int) map[string]situation.Teller {
	atEnd := func(node, counter string) situation.Teller {
		return t.At(ending, situation.AsCounter(node, counter))
	}
	timeWait := func(node string, local, remote script.Endpoint) situation.Teller {
		return situation.AsSockets(script.SocketCount{Node: node, State: string(observe.TimeWait), Local: local, Remote: remote})
	}
	all := map[string]situation.Teller{
		"client time-wait": situation.ByTheSteps, "balancer time-wait": situation.ByTheSteps, "end": situation.ByTheSteps,
		"client time-wait after":   timeWait("client0", t.here(), t.to),
		"balancer time-wait after": timeWait(t.server, t.to, t.there()),
		"accepted":                 situation.AsCounter(t.server, "Tcp.PassiveOpens"),

		situation.TimestampsEvidence.Name: t.At(connecting, situation.TellTimestamps),
		"nat clashes":                     situation.ByTheSteps,
	}
	if t.outside == "gateway" {
		all["nat clashes"] = situation.AsCounter("gateway", "Conntrack.insert_failed")
	}
	for _, counter := range []string{"TcpExt.TCPTimeWaitOverflow", "TcpExt.TCPAbortOnData"} {
		all[fmt.Sprintf("client %s", counter)] = atEnd("client0", counter)
	}
	if t.server == "client0" { // nobody records the packets of lo
		all["answers"] = situation.Unsaid
	}
	return all
}
