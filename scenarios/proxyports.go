package scenarios

import (
	"context"
	"fmt"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// ProxyPorts is the family of HAProxy as a client that runs out of ports: towards
// its servers.
func ProxyPorts() Family {
	const (
		mode     = "mode"
		ends     = "ends"
		ports    = "ports"
		twReuse  = "tw-reuse"
		lbTS     = "lb-ts"
		serverTS = "server-ts"
		nolinger = "nolinger"
		servers  = "servers"
		retries  = "retries"
	)
	byClient := Where{mode: {"tcp"}, ends: {"client"}}
	bare := Cells{{lbTS: {"0"}}, {serverTS: {"0"}}}.And(byClient)
	off := Cells{{ports: {"kernel"}, twReuse: {"2"}}}.And(byClient)
	short := append(bare.And(Where{}), off...)

	const half = proxyRequests / 2
	all := []Expectation{Exactly("whole", proxyRequests), Exactly("econ", 0), Exactly("wretr", 0), Exactly("bytes lost", 0)}
	exhausted := func(tries int64) []Expectation {
		return []Expectation{
			Exactly("whole", proxyPorts), Exactly("unanswered", half), Exactly("econ", half), Exactly("wretr", half*(tries-1)), Exactly("no port", 0),
			Exactly("backend TIME_WAIT", proxyPorts), Exactly("backend ports", proxyPorts), Is("log", "-- SC"),
			Stays(lab.Balancer, "TcpExt.TWRecycled"),
		}
	}
	retaken := with(all, AtLeast("balancer TcpExt.TWRecycled", half), Is("backend ports in backend TIME_WAIT", "all"),
		Between("backend ports", 1, proxyPorts), Is("log", "--"))
	const refused = "HAProxy 2.6: tcp_connect_server, EADDRNOTAVAIL"

	return Family{
		Name:     "proxyports",
		Evidence: proxiedEvidence(),
		About: fmt.Sprintf("HAProxy has %d ports for its connections to servers, and a client makes %d requests, half of them when the TIME_WAITs of the "+
			"first are old enough for tcp_tw_reuse: who gets a port, and what does the client see when HAProxy finds none?", proxyPorts, proxyRequests),
		Axes: []Axis{
			{Name: mode, Values: []string{"tcp", "http"}, Product: true, Means: "HAProxy's mode"},
			{Name: ends, Values: []string{"client", "server", "nobody", "stalled"}, Product: true,
				Means: "who ends connections: the client closes first, the server does, nobody does, or nobody can because no response comes to its end " +
					"(all requests at once, until timeout server)"},
			{Name: ports, Values: []string{"kernel", "source"},
				Means: "where the ports come from: ip_local_port_range of the balancer, or HAProxy's source ADDRESS:FIRST-LAST"},
			{Name: twReuse, Values: []string{"2", "1"}, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_tw_reuse"},
				Means: "tcp_tw_reuse of the balancer"},
			{Name: lbTS, Values: []string{"1", "0"}, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
			{Name: serverTS, Values: []string{"1", "0"}, Knob: Knob{Role: lab.Server, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the servers"},
			{Name: nolinger, Values: []string{"no", "servers"}, Means: "option nolinger of HAProxy's backend"},
			{Name: servers, Values: []string{"1", "2"}, Means: "how many servers there are"},
			{Name: retries, Values: []string{"none", "3"}, Means: "retries of HAProxy; 3 is its default"},
		},
		Crossed: [][]string{{ports, twReuse}},
		Rules: []Rule{
			{
				Name: "proxyports-in-flight-more", Cells: Cells{{ends: {"stalled"}, servers: {"2"}}},
				Want: []Expectation{Exactly("truncated", proxyRequests), Exactly("econ", 0), Exactly("errors", 0), Exactly("unanswered", 0),
					Exactly("backend ports", proxyRequests)},
				Because: "a port is taken for one destination only, so two servers are twice the connections; HAProxy has a range of source for each server",
				Source:  "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
			},
			{
				Name: "proxyports-in-flight-http", Cells: Cells{{ends: {"stalled"}, mode: {"http"}}},
				Want: []Expectation{Exactly("errors", half), Exactly("truncated", half), Exactly("econ", half), Exactly("unanswered", 0),
					Exactly("backend ports", proxyPorts), Is("log", "SC-- sD--", "CD-- SC--")},
				Because: "in mode http the ports limit the requests under way: those beyond get 503 from HAProxy, whose log blames the server (SC)",
				Source:  refused + "; configuration manual, Session state at disconnection",
			},
			{
				Name: "proxyports-in-flight-tcp", Cells: Cells{{ends: {"stalled"}}},
				Want: []Expectation{Exactly("unanswered", half), Exactly("truncated", half), Exactly("econ", half), Exactly("errors", 0),
					Exactly("backend ports", proxyPorts), Is("log", "SC sD")},
				Because: "in mode tcp a client whose connection HAProxy has no port for was accepted all the same, and is hung up on: a FIN or a RST instead of a response",
				Source:  refused + "; configuration manual, Session state at disconnection",
			},
			{
				Name: "proxyports-http", Cells: Cells{{mode: {"http"}}},
				Want: with(all, Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0), AtLeast("balancer Tcp.OutRsts", proxyRequests-2),
					Is("log", "----", "")),
				Because: "in mode http HAProxy ends its connections to servers by a RST or keeps them for the next client: no TIME_WAIT takes a port, and a client that " +
					"keeps its connection holds none",
				Source: "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server, srv_add_to_idle_list",
			},
			{
				Name: "proxyports-kept-more", Cells: Cells{{ends: {"nobody"}, servers: {"2"}}},
				Want:    with(all, Exactly("kept", proxyRequests), Exactly("backend TIME_WAIT", 0)),
				Because: "a port is taken for one destination only, so two servers are twice the connections; HAProxy has a range of source for each server",
				Source:  "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
			},
			{
				Name: "proxyports-kept", Cells: Cells{{ends: {"nobody"}}},
				Want: []Expectation{Exactly("whole", proxyPorts), Exactly("unanswered", half), Exactly("kept", proxyPorts), Exactly("econ", half),
					Exactly("backend TIME_WAIT", 0), Is("log", "SC")},
				Because: "in mode tcp each client's connection holds a port towards the server for as long as it lives",
				Source:  refused,
			},
			{
				Name: "proxyports-server-closes", Cells: Cells{{ends: {"server"}}},
				Want: with(all, Exactly("backend TIME_WAIT", 0), Is("backend ports in server TIME_WAIT", "all"),
					Between("server TIME_WAIT", 1, proxyRequests), Stays(lab.Balancer, "Tcp.OutRsts"), Is("log", "--")),
				Because: "when the server closes first it has the TIME_WAITs, and HAProxy's ports are free at once",
				Source:  "RFC 9293 section 3.6; tcp_timewait_state_process",
			},
			{
				Name: "proxyports-nolinger", Cells: Cells{{nolinger: {"servers"}}},
				Want: with(all, Exactly("backend TIME_WAIT", 0), AtLeast("balancer Tcp.OutRsts", proxyRequests), AtLeast("server Tcp.EstabResets", half),
					Is("log", "--")),
				Because: "with option nolinger in the backend HAProxy ends its connections to servers by a RST, and its ports are free at once",
				Source:  "configuration manual, option nolinger; tcp_close",
			},
			{
				Name: "proxyports-more-servers", Cells: Cells{{servers: {"2"}}},
				Want:    with(all, Is("backend ports in backend TIME_WAIT", "all"), Between("backend ports", 1, proxyRequests), Stays(lab.Balancer, "Tcp.OutRsts"), Is("log", "--")),
				Because: "a port is taken for one destination only, so two servers are twice the connections; HAProxy has a range of source for each server",
				Source:  "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
			},
			{
				Name: "proxyports-retried", Cells: short.And(Where{retries: {"3"}}), Want: exhausted(4),
				Because: "HAProxy tries again three times, a while apart (timeout connect, at most 1 s), and a TIME_WAIT lasts longer than that",
				Source:  "configuration manual, retries; " + refused,
			},
			{
				Name: "proxyports-bare", Cells: bare, Want: exhausted(1),
				Because: "a TIME_WAIT of a connection without timestamps is never taken, neither by tcp_tw_reuse=1 nor by HAProxy's own bind with SO_REUSEADDR: " +
					"whoever turns timestamps off, on the balancer or on the servers, takes the balancer's ports for 60 s each",
				Source: "tcp_twsk_unique: tw_ts_recent_stamp; " + refused,
			},
			{
				Name: "proxyports-source", Cells: Cells{{ports: {"source"}}}, Want: retaken,
				Because: "HAProxy binds the ports of its source range with SO_REUSEADDR, and connect then takes their TIME_WAITs whatever tcp_tw_reuse says",
				Source:  "configuration manual, source; HAProxy 2.6: tcp_bind_socket; tcp_twsk_unique: twp is NULL",
			},
			{
				Name: "proxyports-reused", Cells: Cells{{twReuse: {"1"}}}, Want: retaken,
				Because: "tcp_tw_reuse=1 on the balancer takes its TIME_WAITs towards the servers when they are old enough",
				Source:  "tcp_twsk_unique",
			},
			{
				Name: "proxyports-exhausted", Cells: Cells{{}}, Want: exhausted(1),
				Because: "in mode tcp a client that closes first makes HAProxy close first towards the server, and each connection takes a port for 60 s; the client's connect " +
					"succeeds all the same, and the connection ends without an answer",
				Source: "__inet_hash_connect; " + refused + "; configuration manual, Session state at disconnection",
			},
		},
		Topology: func(c Cell) lab.Topology {
			config := proxyConfig(c.Value(mode))
			config.NoLingerServers = c.Is(nolinger, "servers")
			// A SYN that comes while the server deals with the RST before it is lost
			// with that connection (tcp_add_backlog), so no short time to connect but
			// where HAProxy waits as long between its tries.
			config.Retries = -1
			if c.Is(retries, "3") {
				config.Retries, config.Timeouts.Connect = 3, later/4
			}
			if c.Is(ends, "stalled") {
				config.Timeouts.Server = stall
			}
			t := lab.Topology{Clients: 1, Servers: 1, Sysctls: append(KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
				lab.Setting{Role: lab.Balancer, Name: reuseDelay, Value: "1", IfPresent: true})}
			if c.Is(servers, "2") {
				t.Servers = 2
			}
			if c.Is(ports, "source") {
				config.Source = haproxy.Source{First: proxyFirstPort, Last: proxyFirstPort + proxyPorts - 1}
			} else {
				t.Sysctls = t.Sysctls.On(lab.Balancer, portRange())
			}
			t.Balancer = lab.BalancerSpec{Program: haproxy.Balancer{Config: config}}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			responder := &http.Responder{Body: proxyBytes}
			p := Proxied{Requests: half, Again: half, Server: http.ListenSpec{HTTP: responder}}
			var request http.Request
			switch c.Value(ends) {
			case "client":
				p.Each.Ending = tcp.CloseFirst
			case "server":
				responder.Last = 1
				request.Connection = "close"
				p.Each.Ending = tcp.CloseAfterPeer
				if c.Is(mode, "http") { // where HAProxy closes, and both at once would be a race
					p.Server.Ending = tcp.CloseAfterPeer
				}
			case "stalled":
				p.Requests, p.AtOnce, p.Again = proxyRequests, proxyRequests, 0
				responder.Last, responder.Cut = 1, 1
				request.Connection = "close"
				p.Each.Ending, p.Server.Ending = tcp.CloseAfterPeer, tcp.CloseAfterPeer
			}
			p.Each.Requests = []http.Request{request}
			return p.Drive(ctx, l)
		},
	}
}

// stall is how long HAProxy waits for a server that has stopped in the middle.
const stall = 2 * time.Second
