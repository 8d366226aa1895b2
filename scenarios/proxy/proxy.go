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
	proxyBalancer   = "balancer"
	proxyEnds       = "ends"
	proxyNolinger   = "nolinger"
	httpReuse       = "http-reuse"
	proxyServer     = "server"
	clientTS        = "client-ts"
	proxyBalancerTS = "balancer-ts"
)

// Proxy is the family of which side has the TIME_WAITs when clients reach servers through a
// balancer: HAProxy in either mode, DNAT, or none.
func Proxy() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "proxy",
			Evidence: proxiedEvidence(),
			About: fmt.Sprintf("A client with %d local ports makes %d HTTP requests in a row, each on its own connection, through a balancer to one server: "+
				"who has the TIME_WAITs (the client, the balancer towards clients or towards servers, the server), how many ports does each side use, "+
				"who gets a RST, and does every request get its response?", proxyPorts, proxyRequests),
			Axes: proxyAxes(),
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{proxyBalancer: {"tcp", "dnat", "endpoint"}, proxyEnds: {"httpclose", "http-server-close"}}}, Because: "only mode http knows where a response ends"},
				{Cells: claim.Cells{{proxyBalancer: {"tcp", "dnat", "endpoint"}, httpReuse: {"always"}}}, Because: "only mode http knows where a response ends"},
				{Cells: claim.Cells{{proxyBalancer: {"dnat", "endpoint"}, proxyNolinger: {"clients", "servers"}}}, Because: "there is no HAProxy"},
				{Cells: claim.Cells{{proxyBalancer: {"tcp", "dnat", "endpoint"}, proxyServer: {"waits", "late"}}}, Because: "a balancer that only passes bytes on does not close by itself: both sides would wait for ever"},
			},
			Rules: slices.Concat(
				proxyDNATRules(), proxyEndpointRules(), proxyTCPRules(),
				proxyHTTPResetRules(), proxyHTTPRules(), proxyHTTPServerRules(),
			),
		},
		Topology: proxyTopology,
		Drive:    proxyDrive,
		Tell:     proxyTell,
	}
}

func proxyAxes() []claim.Axis {
	return []claim.Axis{
		{Name: proxyBalancer, Values: []string{"http", "tcp", "dnat", "endpoint"}, Product: true,
			Means: "HAProxy in mode http or tcp; iptables DNAT; or none: the client connects to the server itself"},
		{Name: proxyEnds, Values: []string{"client", "request", "server", "httpclose", "http-server-close", "idle", "reset"}, Product: true,
			Means: "what ends the connection: the client closes after the response; the client's request or the server's response says " +
				"Connection: close; option httpclose or http-server-close of HAProxy; a timeout ends the idle connection while the client " +
				"waits (timeout http-keep-alive; in mode tcp timeout client; without HAProxy the timeout of the server); or the client closes " +
				"with SO_LINGER and 0 seconds"},
		{Name: proxyNolinger, Values: []string{"no", "clients", "servers"}, Means: "option nolinger in HAProxy's frontend (clients) or backend (servers)"},
		{Name: httpReuse, Values: []string{"safe", "always"}, Means: "http-reuse of HAProxy"},
		{Name: proxyServer, Values: []string{"first", "waits", "late"},
			Means: "when a server closes that has said Connection: close: at once, with its FIN in the segment of the last byte; after the other " +
				"side has closed; or at once, but its FIN is held up on the way"},
		{Name: clientTS, Values: []string{"1", "0"}, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the client"},
		{Name: proxyBalancerTS, Values: []string{"1", "0"}, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
			Means: "tcp_timestamps of the balancer"},
		situation.IPAxis(),
	}
}

func proxyTopology(c claim.Cell) lab.Topology {
	t := lab.Topology{
		Clients: 1, Servers: 1,
		Sysctls: situation.KeepTimeWaits(lab.Client, lab.Balancer, lab.Server).On(lab.Client, portRange(), "net.ipv4.tcp_tw_reuse=0"),
	}
	switch c.Value(proxyBalancer) {
	case "dnat":
		t.Balancer.Kind = lab.DNAT
	case "http", "tcp":
		config := proxyConfig(c.Value(proxyBalancer))
		switch c.Value(proxyNolinger) {
		case "no":
		case "clients":
			config.NoLingerClients = true
		case "servers":
			config.NoLingerServers = true
		}
		if c.Is(proxyBalancer, "http") {
			config.Reuse = haproxy.Reuse(c.Value(httpReuse))
		}
		switch c.Value(proxyEnds) {
		case "httpclose", "http-server-close":
			config.Connections = haproxy.Connections(c.Value(proxyEnds))
		case "idle":
			config.Timeouts.KeepAlive = soon
			if c.Is(proxyBalancer, "tcp") {
				config.Timeouts.Client = later // it also runs while the request is answered
			}
		}
		t.Balancer = lab.BalancerSpec{Program: haproxy.Balancer{Config: config}}
	}
	// HAProxy resets a connection that the other side closes at the same time: that side's
	// FIN would race with the RST, so it is held up.
	if c.Is(proxyServer, "late") {
		t.Rules = append(t.Rules, holdUp("--sport 80 --tcp-flags FIN FIN"))
	}
	if c.Is(proxyNolinger, "clients") && (c.Is(proxyEnds, "idle") || c.Is(proxyBalancer, "http") && c.Is(proxyEnds, "request", "httpclose")) {
		t.Rules = append(t.Rules, holdUp("--dport 80 --tcp-flags FIN FIN"))
	}
	return t
}

func proxyDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	return proxyRequestsOf(c).Drive(ctx, l)
}

func proxyTell(c claim.Cell) (situation.Told, error) {
	return proxyRequestsOf(c).tell(proxyTopology(c))
}

// proxyRequestsOf is what client and servers do in a cell.
func proxyRequestsOf(c claim.Cell) Proxied {
	p := Proxied{Requests: proxyRequests, Server: http.ListenSpec{HTTP: &http.Responder{Body: proxyBytes, JoinFIN: c.Is(proxyServer, "first")}}}
	var request http.Request
	p.Each.Ending = tcp.CloseAfterPeer
	if c.Is(proxyServer, "waits") {
		p.Server.Ending = tcp.CloseAfterPeer
	}
	switch c.Value(proxyEnds) {
	case "client", "http-server-close":
		p.Each.Ending = tcp.CloseFirst
	case "request":
		request.Connection = "close"
	case "server":
		p.Server.HTTP.Last = 1
		if c.Is(proxyBalancer, "http") { // HAProxy does not pass it on to the client
			p.Each.Ending = tcp.CloseFirst
		}
	case "idle":
		if !c.Is(proxyBalancer, "http") {
			p.AtOnce = proxyPorts // otherwise all wait for one idle timeout after the other
		}
		if c.Is(proxyBalancer, "dnat", "endpoint") {
			p.Server.HTTP.Idle = later
		}
	case "reset":
		p.Each.Ending = tcp.Abort
	}
	p.Each.Requests = []http.Request{request}
	return p
}

const (
	proxyFirstPort = 50000
	proxyPorts     = 4
	proxyRequests  = 8

	proxyBytes = 1000 // of each response

	// soon and later are timeouts of HAProxy: soon runs when no more data comes, and
	// within later a request must get its response, which takes 1 to 50 ms.
	soon  = 20 * time.Millisecond
	later = 2 * time.Second
)

// purgeDelay is longer than any cell.
const purgeDelay = 10 * time.Minute

// holdUp is a rule at the balancer that drops the TCP packets that match, as if they came
// too late.
func holdUp(match string) lab.Rule {
	return lab.Rule{Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-p tcp " + match + " -j DROP"}
}

// portRange is the sysctl that gives a node proxyPorts local ports.
func portRange() string {
	return fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", proxyFirstPort, proxyFirstPort+proxyPorts-1)
}

// proxyConfig is a HAProxy that does not close its idle connections to servers during a
// cell.
func proxyConfig(mode string) haproxy.Config {
	return haproxy.Config{Mode: haproxy.Mode(mode), BackendLines: []string{fmt.Sprintf("default-server pool-purge-delay %dm", purgeDelay/time.Minute)}}
}
