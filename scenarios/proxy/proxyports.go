package proxy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family.
const (
	portsMode       = "mode"
	portsEnds       = "ends"
	portsFrom       = "ports"
	twReuse         = "tw-reuse"
	portsBalancerTS = "balancer-ts"
	serverTS        = "server-ts"
	portsNolinger   = "nolinger"
	portsServers    = "servers"
	retries         = "retries"
)

// portsHalf is the number of requests in each half.
const portsHalf = proxyRequests / 2

// stall is how long HAProxy waits for a server that has stopped in the middle.
const stall = 2 * time.Second

// Ports is the family of HAProxy as a client that runs out of ports, towards its servers.
func Ports() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "proxyports",
			Evidence: proxiedEvidence(),
			About: fmt.Sprintf("HAProxy has %d ports for its connections to servers, and a client makes %d requests, the second half when the TIME_WAITs of the "+
				"first half are old enough for tcp_tw_reuse: which requests get a port, and what does the client see when HAProxy finds none?", proxyPorts, proxyRequests),
			Axes:    portsAxes(),
			Crossed: [][]string{{portsFrom, twReuse}},
			Rules:   slices.Concat(portsInFlightRules(), portsKeptRules(), portsSparedRules(), portsWaitingRules()),
		},
		Topology: portsTopology,
		Drive:    portsDrive,
		Tell:     portsTell,
	}
}

func portsAxes() []claim.Axis {
	return []claim.Axis{
		{Name: portsMode, Values: []string{"tcp", "http"}, Product: true, Means: "HAProxy's mode"},
		{Name: portsEnds, Values: []string{"client", "server", "nobody", "stalled"}, Product: true,
			Means: "who ends the connections: the client closes first; the server closes first; neither closes; or neither can close, because no " +
				"response is completed (all requests at once, until timeout server)"},
		{Name: portsFrom, Values: []string{"kernel", "source"},
			Means: "where HAProxy's ports come from: ip_local_port_range of the balancer, or HAProxy's own source ADDRESS:FIRST-LAST"},
		{Name: twReuse, Values: []string{"2", "1"}, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_tw_reuse"},
			Means: "tcp_tw_reuse of the balancer"},
		{Name: portsBalancerTS, Values: []string{"1", "0"}, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		{Name: serverTS, Values: []string{"1", "0"}, Sysctl: claim.RoleSysctl{Role: lab.Server, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the servers"},
		{Name: portsNolinger, Values: []string{"no", "servers"}, Means: "option nolinger in HAProxy's backend"},
		{Name: portsServers, Values: []string{"1", "2"}, Means: "the number of servers"},
		{Name: retries, Values: []string{"none", "3"}, Means: "retries of HAProxy; 3 is its default"},
	}
}

func portsTopology(c claim.Cell) lab.Topology {
	config := proxyConfig(c.Value(portsMode))
	config.NoLingerServers = c.Either(portsNolinger, "servers", "no")
	// A SYN that comes while the server still handles the RST before it gets lost with
	// that connection (tcp_add_backlog). So timeout connect is short only in the cells
	// with retries, because HAProxy waits for as long between its tries.
	config.Retries = -1
	if c.Either(retries, "3", "none") {
		config.Retries, config.Timeouts.Connect = 3, later/4
	}
	if c.Is(portsEnds, "stalled") {
		config.Timeouts.Server = stall
	}
	t := lab.Topology{Clients: 1, Servers: 1, Sysctls: append(situation.KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
		lab.Setting{Role: lab.Balancer, Name: situation.ReuseDelay, Value: "1", IfPresent: true})}
	if c.Either(portsServers, "2", "1") {
		t.Servers = 2
	}
	if c.Either(portsFrom, "source", "kernel") {
		config.Source = haproxy.Source{First: proxyFirstPort, Last: proxyFirstPort + proxyPorts - 1}
	} else {
		t.Sysctls = t.Sysctls.On(lab.Balancer, portRange())
	}
	t.Balancer = lab.BalancerSpec{Program: haproxy.Balancer{Config: config}}
	return t
}

func portsDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	return portsRequestsOf(c).Drive(ctx, l)
}

func portsTell(c claim.Cell) (situation.Told, error) {
	return portsRequestsOf(c).tell(portsTopology(c))
}

// portsRequestsOf is what client and servers do in a cell.
func portsRequestsOf(c claim.Cell) Proxied {
	responder := &http.Responder{Body: proxyBytes}
	p := Proxied{Requests: portsHalf, Again: portsHalf, Server: http.ListenSpec{HTTP: responder}}
	var request http.Request
	switch c.Value(portsEnds) {
	case "nobody":
	case "client":
		p.Each.Ending = tcp.CloseFirst
	case "server":
		responder.Last = 1
		request.Connection = "close"
		p.Each.Ending = tcp.CloseAfterPeer
		if c.Either(portsMode, "http", "tcp") { // HAProxy closes; if the server did so too, that would be a race
			p.Server.Ending = tcp.CloseAfterPeer
		}
	case "stalled":
		p.Requests, p.AtOnce, p.Again = proxyRequests, proxyRequests, 0
		responder.Last, responder.Cut = 1, 1
		request.Connection = "close"
		p.Each.Ending, p.Server.Ending = tcp.CloseAfterPeer, tcp.CloseAfterPeer
	}
	p.Each.Requests = []http.Request{request}
	return p
}
