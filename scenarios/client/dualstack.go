package client

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/tcp"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and the addresses of listeners.
const (
	firstAt      = "first"
	secondAt     = "second"
	listenerOpts = "options"

	all4  = "0.0.0.0"
	all46 = "::"
	all6  = "::" + v6Only
	one4  = "127.0.0.1"
	one6  = "::1"

	v6Only = "-v6only"

	optsNone      = "none"
	optsReuseAddr = "reuseaddr"
	optsReusePort = "reuseport"
	// One of the listeners has the option alone.
	optsReuseAddrFirst  = "reuseaddr-first"
	optsReuseAddrSecond = "reuseaddr-second"
	optsReusePortFirst  = "reuseport-first"
	optsReusePortSecond = "reuseport-second"
)

// What a connection reaches.
const (
	reachesFirst  = "first"
	reachesSecond = "second"
	reachesNobody = "nobody"
)

// DualStack is the family of two listeners of one port, of both versions of IP.
func DualStack() situation.Family {
	at := []string{all4, all46, all6, one4, one6}
	return situation.Family{
		Family: claim.Family{
			Name: "dualstack",
			Evidence: []claim.Evidence{
				{Name: "second listener", Unit: situation.AnOutcome, Means: "the result of its bind(2) and listen(2)"},
				{Name: "step", Unit: "a system call", Means: "the system call that gave the outcome"},
				{Name: "IPv4 reaches", Unit: "a listener", Means: "which listener has a connection to 127.0.0.1"},
				{Name: "IPv6 reaches", Unit: "a listener", Means: "which listener has a connection to ::1"},
			},
			About: "A host of both versions of IP has a listener, and another one wants the same port: does it get it, and whom do connections reach?",
			Axes: []claim.Axis{
				{Name: firstAt, Values: at, Product: true, Means: "the address of the first listener; a listener at :: takes IPv4 connections too, with IPV6_V6ONLY it does not"},
				{Name: secondAt, Values: at, Product: true, Means: "the address of the second listener"},
				{Name: listenerOpts, Product: true,
					Values: []string{optsReuseAddr, optsNone, optsReusePort, optsReuseAddrFirst, optsReuseAddrSecond, optsReusePortFirst, optsReusePortSecond},
					Means: "the options: both have SO_REUSEADDR, as servers have it, or none, or SO_REUSEPORT too; or only the first or the second has " +
						"SO_REUSEADDR; or both have SO_REUSEADDR, and only the first or the second SO_REUSEPORT too"},
			},
			Rules: dualStackRules(),
		},
		Topology: func(claim.Cell) lab.Topology { return lab.Topology{Clients: 1, IP: topo.DualStack} },
		Drive:    dualStackDrive,
		Tell:     dualStackTell,
	}
}

// dualStackPort is the port of both listeners.
const dualStackPort = 80

func dualStackDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	n := l.Balancer()
	var both [2]tcp.ListenResult
	specs, err := listenersOf(c)
	if err != nil {
		return seen, fmt.Errorf("two listeners: %w", err)
	}
	for i, spec := range specs {
		if both[i], err = n.TryListen(ctx, spec); err != nil {
			return seen, fmt.Errorf("two listeners: %w", err)
		}
	}
	if both[0].Outcome != tcp.Listening {
		return seen, fmt.Errorf("two listeners: the first one: %v, want Listening", both[0])
	}
	seen.Note("second listener", string(both[1].Outcome))
	seen.Note("step", string(both[1].Step))
	for _, to := range []struct{ what, addr string }{{"IPv4 reaches", one4}, {"IPv6 reaches", one6}} {
		whom, err := reaches(ctx, n, netip.AddrPortFrom(netip.MustParseAddr(to.addr), dualStackPort), both)
		if err != nil {
			return seen, fmt.Errorf("two listeners: %w", err)
		}
		seen.Note(to.what, whom)
	}
	return seen, nil
}

// listenersOf are the two listeners of a cell.
func listenersOf(c claim.Cell) (specs [2]tcp.ListenSpec, err error) {
	switch c.Value(listenerOpts) {
	case optsNone:
		specs[0].NoReuseAddr, specs[1].NoReuseAddr = true, true
	case optsReuseAddr: // what a listener has unless it is told
	case optsReuseAddrFirst:
		specs[1].NoReuseAddr = true
	case optsReuseAddrSecond:
		specs[0].NoReuseAddr = true
	case optsReusePort:
		specs[0].ReusePort, specs[1].ReusePort = true, true
	case optsReusePortFirst:
		specs[0].ReusePort = true
	case optsReusePortSecond:
		specs[1].ReusePort = true
	}
	for i, at := range []string{c.Value(firstAt), c.Value(secondAt)} {
		text, v6only := strings.CutSuffix(at, v6Only)
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return specs, err
		}
		specs[i].V6Only, specs[i].At = v6only, netip.AddrPortFrom(addr, dualStackPort)
	}
	return specs, nil
}

// reaches connects, and says which of the listeners has the connection.
func reaches(ctx context.Context, n node.Node, to netip.AddrPort, both [2]tcp.ListenResult) (whom string, err error) {
	result, err := n.Connect(ctx, tcp.Attempt{To: to})
	switch {
	case err != nil:
		return "", err
	case result.Outcome == tcp.Refused:
		return reachesNobody, nil
	case result.Outcome != tcp.Connected:
		return "", fmt.Errorf("%s: connect to %v: %v, want Connected or Refused", n.Identity().Name, to, result)
	}
	racing, stop := context.WithCancel(ctx)
	defer stop()
	type accepted struct {
		by  string
		err error
	}
	answers, asked := make(chan accepted, len(both)), 0
	for i, by := range []string{reachesFirst, reachesSecond} {
		if both[i].Outcome != tcp.Listening {
			continue
		}
		asked++
		go func() {
			_, err := n.Accept(racing, both[i].Listener, result.Local)
			answers <- accepted{by, err}
		}()
	}
	for range asked {
		a := <-answers
		if a.err == nil {
			whom = a.by
		} else {
			err = a.err
		}
		stop() // the other one does not get it any more
	}
	if whom != "" {
		return whom, nil
	}
	return "", err
}
