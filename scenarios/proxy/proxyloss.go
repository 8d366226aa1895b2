package proxy

import (
	"context"
	"fmt"
	"slices"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	lossMode     = "mode"
	cut          = "cut"
	framing      = "framing"
	lossNolinger = "nolinger"
	window       = "window"
)

const (
	lossRequests = 4
	// lossBytes is a response that HAProxy has in its buffer, and the kernel's
	// first congestion window has room for: all of it is sent at once.
	lossBytes = 12 << 10
	lossCut   = lossBytes / 2
	// smallWindow has no room for a response, nor for the part that is cut off it.
	smallWindow = 4 << 10
)

// Loss is the family of responses that HAProxy's client does not get in full,
// and who is told so.
func Loss() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "proxyloss",
			Evidence: proxiedEvidence(),
			About: fmt.Sprintf("A client makes %d requests at once through HAProxy, each on a connection of its own that says Connection: close, "+
				"and somebody breaks off in the middle of the responses: how much arrives, and who notices?", lossRequests),
			Axes: lossAxes(),
			Impossible: []claim.Impossible{{
				Cells:   claim.Cells{{lossMode: {"tcp"}, cut: {"server-rst"}, lossNolinger: {"clients"}, window: {"small"}}},
				Because: "whether HAProxy finds the server's RST before it has passed on the last byte, and so resets the client, is a race, and with it what gets lost",
			}},
			Rules: slices.Concat(lossClientRules(), lossNoneRules(), lossNolingerRules(), lossStallRules(), lossServerRules()),
		},
		Topology: lossTopology,
		Drive:    lossDrive,
	}
}

func lossAxes() []claim.Axis {
	return []claim.Axis{
		{Name: lossMode, Values: []string{"http", "tcp"}, Product: true, Means: "HAProxy's mode"},
		{Name: cut, Values: []string{"no", "server-fin", "server-rst", "server-stalls", "client-rst"}, Product: true,
			Means: "what happens in the middle of a response: nothing; the server closes, by FIN or by RST; the server stops until timeout server; " +
				"the server stops and the client gives up by RST before that"},
		{Name: framing, Values: []string{"length", "close", "chunked"},
			Means: "how the end of a response is told: Content-Length, chunks, or the end of the connection"},
		{Name: lossNolinger, Values: []string{"no", "clients"}, Means: "option nolinger of HAProxy's frontend"},
		{Name: window, Values: []string{"large", "small"},
			Means: "whether a whole response fits into the client's receive window, or tcp_rmem is 4096"},
	}
}

func lossTopology(c claim.Cell) lab.Topology {
	config := proxyConfig(c.Value(lossMode))
	config.NoLingerClients = c.Is(lossNolinger, "clients")
	if c.Is(cut, "server-stalls", "client-rst") {
		config.Timeouts.Server = stall
	}
	t := lab.Topology{
		Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: config}},
		Sysctls: situation.KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
	}
	if c.Is(window, "small") {
		t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_rmem=%[1]d %[1]d %[1]d", smallWindow))
	}
	// The client's acknowledgements open its window again, in a race with
	// HAProxy's RST. Its request carries the one that the handshake needs.
	if c.Is(lossMode, "http") && c.Is(lossNolinger, "clients") && c.Is(window, "small") && c.Is(cut, "no", "server-fin", "server-rst") {
		t.Rules = append(t.Rules, holdUp("--dport 80 --tcp-flags SYN,FIN,RST,PSH,ACK ACK"))
	}
	return t
}

func lossDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	responder := &http.Responder{Body: lossBytes, Last: 1}
	switch c.Value(framing) {
	case "chunked":
		responder.Framing = http.Chunked
	case "close":
		responder.Framing = http.ToTheEnd
	}
	p := Proxied{Requests: lossRequests, AtOnce: lossRequests, Server: http.ListenSpec{HTTP: responder}}
	p.Each.Ending = tcp.CloseAfterPeer
	p.Each.Requests = []http.Request{{Connection: "close"}}
	if !c.Is(cut, "no") {
		responder.Cut = lossCut
	}
	switch c.Value(cut) {
	case "server-rst":
		p.Server.Ending = tcp.Abort
	case "server-stalls":
		p.Server.Ending = tcp.CloseAfterPeer
	case "client-rst":
		p.Server.Ending = tcp.CloseAfterPeer
		p.Each.Budget = stall / 4 // long before timeout server
	}
	return p.Drive(ctx, l)
}
