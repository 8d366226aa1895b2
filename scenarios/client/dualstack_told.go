package client

import (
	"twlab/harness/lab"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The status codes by which the two listeners can be told apart.
const (
	statusFirst  = 201
	statusSecond = 202
)

// The steps of a cell.
const (
	dualStackSecond = 1 // the second listener
	dualStackIPv4   = 2 // a request to 127.0.0.1; the last one is to ::1
)

// dualStackTell tells a cell of the family as steps: two HTTP servers, each with a status code of its
// own, and a request to each loopback address.
func dualStackTell(c claim.Cell) (situation.Told, error) {
	specs, err := listenersOf(c)
	if err != nil {
		return situation.Told{}, err
	}
	var steps situation.Steps
	for i, spec := range specs {
		steps.Do(script.Listen{
			Node: string(lab.Balancer), Port: dualStackPort, At: listensAt(spec), OnlyV6: spec.V6Only, NoReuseAddr: spec.NoReuseAddr, ReusePort: spec.ReusePort,
			Serve: script.ServeHTTP, Web: script.Web{Status: statusFirst + i},
		})
	}
	steps[0].Expect = []script.Expectation{{Outcome: string(tcp.Listening)}}
	for _, six := range []bool{false, true} {
		steps.Do(script.Exchange{
			From: script.Endpoint{Name: string(lab.Balancer)}, To: script.Endpoint{Name: script.Loopback, Port: dualStackPort, Six: six},
		})
	}
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		"second listener": steps.At(dualStackSecond, func(e claim.Expectation, to *[]script.Expectation) bool {
			(*to)[0].Outcome = e.OneOf[0]
			return true
		}),
		"IPv4 reaches": steps.At(dualStackIPv4, tellReached),
		"IPv6 reaches": tellReached,
	}}, nil
}

// listensAt is the address of a listener as files have it; that of all addresses of both versions is
// left out.
func listensAt(spec tcp.ListenSpec) script.Endpoint {
	switch a := spec.At.Addr(); {
	case a.IsLoopback():
		return script.Endpoint{Name: script.Loopback, Six: a.Is6()}
	case a.Is4():
		return script.Endpoint{Name: script.Everywhere}
	default:
		return script.Endpoint{}
	}
}

// tellReached expects the status code of the listener that a request reaches.
func tellReached(e claim.Expectation, to *[]script.Expectation) bool {
	status := script.Between(statusFirst, statusSecond)
	if len(e.OneOf) == 1 {
		switch e.OneOf[0] {
		case reachesNobody:
			(*to)[0].Outcome = string(tcp.Refused)
			return true
		case reachesFirst:
			status = script.Exactly(statusFirst)
		case reachesSecond:
			status = script.Exactly(statusSecond)
		}
	}
	(*to)[0].Status = &status
	return true
}
