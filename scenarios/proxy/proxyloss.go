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
	// lossBytes is the size of a response. It fits into HAProxy's buffer and into the
	// kernel's initial congestion window, so all of it is sent at once.
	lossBytes = 12 << 10
	lossCut   = lossBytes / 2
	// smallWindow has no room for a response, nor for the part before the cut.
	smallWindow = 4 << 10
)

// Loss is the family of responses that HAProxy's client does not get completely, and of
// who notices that.
func Loss() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "proxyloss",
			Evidence: proxiedEvidence(),
			About: fmt.Sprintf("A client makes %d requests at once through HAProxy, each on its own connection with Connection: close, and the server "+
				"or the client breaks off in the middle of the responses: how much arrives, and who notices?", lossRequests),
			Axes: lossAxes(),
			Impossible: []claim.Impossible{{
				Cells: claim.Cells{{lossMode: {"tcp"}, cut: {"server-rst"}, lossNolinger: {"clients"}, window: {"small"}}},
				Because: "HAProxy resets the client only if it sees the server's RST before it has passed on the last byte; that is a race, so it is " +
					"chance what gets lost",
			}},
			Rules: slices.Concat(lossClientRules(), lossNoneRules(), lossNolingerRules(), lossStallRules(), lossServerRules()),
		},
		Topology: lossTopology,
		Drive:    lossDrive,
		Tell:     lossTell,
	}
}

func lossAxes() []claim.Axis {
	return []claim.Axis{
		{Name: lossMode, Values: []string{"http", "tcp"}, Product: true, Means: "HAProxy's mode"},
		{Name: cut, Values: []string{"no", "server-fin", "server-rst", "server-stalls", "client-rst"}, Product: true,
			Means: "what happens in the middle of a response: nothing; the server closes with a FIN; the server closes with a RST; the server " +
				"stops until timeout server; or the server stops, and the client gives up with a RST before that"},
		{Name: framing, Values: []string{"length", "close", "chunked"},
			Means: "what marks the end of a response: Content-Length, the end of the connection, or chunks"},
		{Name: lossNolinger, Values: []string{"no", "clients"}, Means: "option nolinger in HAProxy's frontend"},
		{Name: window, Values: []string{"large", "small"},
			Means: "whether the client's receive window has room for a whole response; small: tcp_rmem is 4096"},
	}
}

func lossTopology(c claim.Cell) lab.Topology {
	config := proxyConfig(c.Value(lossMode))
	config.NoLingerClients = c.Either(lossNolinger, "clients", "no")
	if c.Is(cut, "server-stalls", "client-rst") {
		config.Timeouts.Server = stall
	}
	t := lab.Topology{
		Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: config}},
		Sysctls: situation.KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
	}
	if c.Either(window, "small", "large") {
		t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_rmem=%[1]d %[1]d %[1]d", smallWindow))
	}
	// The client's ACKs would open its window again, in a race with HAProxy's RST, so they
	// are held up. The last ACK of the handshake comes with the request.
	if c.Either(lossMode, "http", "tcp") && c.Is(lossNolinger, "clients") && c.Is(window, "small") && c.Is(cut, "no", "server-fin", "server-rst") {
		t.Rules = append(t.Rules, holdUp("--dport 80 --tcp-flags SYN,FIN,RST,PSH,ACK ACK"))
	}
	return t
}

func lossDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	return lossRequestsOf(c).Drive(ctx, l)
}

func lossTell(c claim.Cell) (situation.Told, error) { return lossRequestsOf(c).tell(lossTopology(c)) }

// lossRequestsOf is what client and servers do in a cell.
func lossRequestsOf(c claim.Cell) Proxied {
	responder := &http.Responder{Body: lossBytes, Last: 1}
	switch c.Value(framing) {
	case "length": // as it is without a word
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
	return p
}
