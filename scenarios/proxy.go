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

// Proxy is the family of who ends up with the TIME_WAITs when clients reach
// servers through a balancer: HAProxy in either mode, DNAT, or none.
func Proxy() Family {
	const (
		balancer = "balancer"
		ends     = "ends"
		nolinger = "nolinger"
		reuse    = "http-reuse"
		server   = "server"
		clientTS = "client-ts"
		lbTS     = "lb-ts"
	)
	inHTTP, inTCP := Where{balancer: {"http"}}, Where{balancer: {"tcp"}}
	byClient := Cells{{ends: {"client"}}}
	byRequest := Cells{{ends: {"request"}}}
	onIdle := Cells{{ends: {"idle"}}}
	byReset := Cells{{ends: {"reset"}}}
	byServer := Cells{{ends: {"request", "server", "idle"}}} // where nobody is in between
	// HAProxy in mode HTTP keeps to itself what the server wants.
	hidden := Cells{{balancer: {"http"}, ends: {"http-server-close", "server"}}}
	told := Cells{{balancer: {"http"}, ends: {"httpclose"}}}

	const half = proxyRequests - proxyPorts
	// What the client has of it: it closed first, and its ports are in TIME_WAIT;
	// or somebody else did.
	clientWaits := []Expectation{
		Exactly("whole", proxyPorts), Exactly("client TIME_WAIT", proxyPorts), Exactly("no port", half), Exactly("frontend TIME_WAIT", 0),
		Exactly("bytes lost", 0), Stays(lab.Client, "Tcp.OutRsts"),
	}
	served := []Expectation{
		Exactly("whole", proxyRequests), Exactly("client TIME_WAIT", 0), Exactly("no port", 0), Exactly("bytes lost", 0),
	}
	frontendWaits := with(served, Is("client ports in frontend TIME_WAIT", "all"), Between("frontend TIME_WAIT", 1, proxyPorts), Stays(lab.Client, "Tcp.OutRsts"), Stays(lab.Client, "Tcp.EstabResets"))
	frontendResets := with(served, Exactly("frontend TIME_WAIT", 0), Stays(lab.Client, "Tcp.OutRsts"))
	// What HAProxy does towards the servers.
	backendWaits := func(n int64) []Expectation {
		return []Expectation{Exactly("backend TIME_WAIT", n), Exactly("server TIME_WAIT", 0), Exactly("backend ports", n)}
	}
	backendResets := func(n int64) []Expectation {
		return []Expectation{
			Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0),
			AtLeast("balancer Tcp.OutRsts", n), AtLeast("server Tcp.EstabResets", n),
		}
	}
	// A server that closes by itself, later or earlier than HAProxy does.
	resetByHAProxy := func(n int64) []Expectation {
		return []Expectation{Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0), AtLeast("balancer Tcp.OutRsts", n)}
	}
	closedByServer := func(n int64) []Expectation {
		return []Expectation{
			Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", n), Exactly("backend ports", n), Stays(lab.Balancer, "Tcp.OutRsts"),
		}
	}
	serverWaits := []Expectation{
		Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", proxyRequests), Exactly("backend ports", proxyRequests),
		Stays(lab.Balancer, "Tcp.OutRsts"),
	}
	shared := []Expectation{Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0), Exactly("backend ports", 1), Exactly("kept", 1),
		Stays(lab.Balancer, "Tcp.OutRsts")}
	noBackend := []Expectation{Exactly("backend TIME_WAIT", 0), Stays(lab.Balancer, "Tcp.OutRsts")}
	allWell := Is("log", "----")
	// The client's FIN has not come when HAProxy closes: see Topology.
	resetFirst := with(frontendResets, AtLeast("balancer Tcp.OutRsts", proxyRequests))
	const (
		risk    = "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server, fd_delete"
		pooled  = "configuration manual, http-reuse; HAProxy 2.6: srv_add_to_idle_list, FD_LINGER_RISK in tcp_connect_server"
		closers = "RFC 9293 section 3.6; tcp_time_wait"
	)

	return Family{
		Name:     "proxy",
		Evidence: proxiedEvidence(),
		About: fmt.Sprintf("A client with %d local ports makes %d HTTP requests in a row, each on a connection of its own, through a balancer to one server: "+
			"who has the TIME_WAITs (the client, the balancer towards clients or towards servers, the server), how many ports does each use, who is reset, "+
			"and does every request get its answer?", proxyPorts, proxyRequests),
		Axes: []Axis{
			{Name: balancer, Values: []string{"http", "tcp", "dnat", "endpoint"}, Product: true,
				Means: "HAProxy in mode http or tcp; iptables DNAT; or none: the server is where the client connects to"},
			{Name: ends, Values: []string{"client", "request", "server", "httpclose", "http-server-close", "idle", "reset"}, Product: true,
				Means: "what decides the end: the client closes after the response; the client's request or the server's response says Connection: close; " +
					"option httpclose or http-server-close of HAProxy; a client that waits while a timeout ends the idle connection (timeout http-keep-alive, " +
					"in mode tcp timeout client, without HAProxy the server's); the client closes with SO_LINGER of 0 seconds"},
			{Name: nolinger, Values: []string{"no", "clients", "servers"}, Means: "option nolinger of HAProxy's frontend or backend"},
			{Name: reuse, Values: []string{"safe", "always"}, Means: "http-reuse"},
			{Name: server, Values: []string{"first", "waits", "late"},
				Means: "when a server that has said Connection: close closes: at once, and its FIN comes in the segment of its last byte; when the " +
					"other side has; or at once, and its FIN is held up on the way"},
			{Name: clientTS, Values: []string{"1", "0"}, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the client"},
			{Name: lbTS, Values: []string{"1", "0"}, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
		},
		Impossible: []Impossible{
			{Cells{{balancer: {"tcp", "dnat", "endpoint"}, ends: {"httpclose", "http-server-close"}}}, "only mode http knows where a response ends"},
			{Cells{{balancer: {"tcp", "dnat", "endpoint"}, reuse: {"always"}}}, "only mode http knows where a response ends"},
			{Cells{{balancer: {"dnat", "endpoint"}, nolinger: {"clients", "servers"}}}, "there is no HAProxy"},
			{Cells{{balancer: {"tcp", "dnat", "endpoint"}, server: {"waits", "late"}}}, "who passes bytes on closes for nobody: both sides would wait for ever"},
		},
		Rules: []Rule{
			{
				Name: "proxy-dnat-client", Cells: byClient.And(Where{balancer: {"dnat"}}),
				Want:    with(clientWaits, with(noBackend, Exactly("server TIME_WAIT", 0), Exactly("backend ports", proxyPorts))...),
				Because: "DNAT is no end of the connection: the client that closes first has the only TIME_WAIT, and the server sees the client's own ports",
				Source:  closers + "; nf_nat_setup_info",
			},
			{
				Name: "proxy-dnat-server", Cells: byServer.And(Where{balancer: {"dnat"}}),
				Want: with(served, with(noBackend, Exactly("frontend TIME_WAIT", 0), Is("backend ports in server TIME_WAIT", "all"),
					Between("server TIME_WAIT", 1, proxyPorts))...),
				Because: "behind DNAT the server that closes first has the TIME_WAITs, one for each of the client's ports; the client's newer timestamp or " +
					"sequence number takes that over",
				Source: closers + "; tcp_timewait_state_process",
			},
			{
				Name: "proxy-dnat-reset", Cells: byReset.And(Where{balancer: {"dnat"}}),
				Want: with(served, with(noBackend, Exactly("frontend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0),
					AtLeast("client Tcp.OutRsts", proxyRequests), AtLeast("server Tcp.EstabResets", proxyRequests))...),
				Because: "behind DNAT the client's RST ends the server's connection, and nobody waits",
				Source:  "tcp_close, tcp_reset",
			},
			{
				Name: "proxy-endpoint-client", Cells: byClient.And(Where{balancer: {"endpoint"}}), Want: with(clientWaits, noBackend...),
				Because: "without a balancer the client that closes first has the only TIME_WAIT",
				Source:  closers,
			},
			{
				Name: "proxy-endpoint-server", Cells: byServer.And(Where{balancer: {"endpoint"}}), Want: with(frontendWaits, noBackend...),
				Because: "without a balancer the server that closes first has the TIME_WAITs, one for each of the client's ports; the client's newer timestamp " +
					"or sequence number takes that over",
				Source: closers + "; tcp_timewait_state_process",
			},
			{
				Name: "proxy-endpoint-reset", Cells: byReset.And(Where{balancer: {"endpoint"}}),
				Want: with(served, with(noBackend, Exactly("frontend TIME_WAIT", 0), AtLeast("client Tcp.OutRsts", proxyRequests),
					AtLeast("balancer Tcp.EstabResets", proxyRequests))...),
				Because: "a RST ends the connection on both sides, and nobody waits",
				Source:  "tcp_close, tcp_reset",
			},

			{
				Name: "proxy-tcp-client-nolinger-clients", Cells: byClient.And(inTCP).And(Where{nolinger: {"clients"}}),
				Want: with(frontendResets, with(backendWaits(proxyRequests), AtLeast("balancer Tcp.OutRsts", proxyRequests), Is("log", "--"))...),
				Because: "HAProxy answers the client's FIN by a RST, which ends the client's FIN_WAIT2: the client keeps no TIME_WAIT although it closed first; " +
					"towards the servers nothing changes",
				Source: "configuration manual, option nolinger; tcp_reset",
			},
			{
				Name: "proxy-tcp-client-nolinger-servers", Cells: byClient.And(inTCP).And(Where{nolinger: {"servers"}}),
				Want:    with(clientWaits, with(backendResets(proxyPorts), Is("log", "--"))...),
				Because: "HAProxy ends its connection to the server by a RST instead of a FIN, and has no TIME_WAIT there; the client's remains",
				Source:  "configuration manual, option nolinger; tcp_close",
			},
			{
				Name: "proxy-tcp-client", Cells: byClient.And(inTCP),
				Want: with(clientWaits, with(backendWaits(proxyPorts), Stays(lab.Balancer, "Tcp.OutRsts"), Is("log", "--"))...),
				Because: "in mode tcp HAProxy passes the client's FIN on and so closes first towards the server: two TIME_WAITs for one connection, one at the client " +
					"and one at HAProxy",
				Source: "HAProxy 2.6: sc_shutw, conn_sock_shutw; " + closers,
			},
			{
				Name: "proxy-tcp-server", Cells: Cells{{balancer: {"tcp"}, ends: {"request", "server"}}},
				Want: with(frontendWaits, with(serverWaits, Is("log", "--"))...),
				Because: "in mode tcp HAProxy passes the server's FIN on, which was first: the server has the TIME_WAITs of all connections, HAProxy those of the " +
					"client's ports; option nolinger has no part, as both sides are closed already when HAProxy lets go",
				Source: "HAProxy 2.6: sc_shutw, conn_sock_shutw; " + closers,
			},
			{
				Name: "proxy-tcp-idle-nolinger-clients", Cells: onIdle.And(inTCP).And(Where{nolinger: {"clients"}}),
				Want: with(resetFirst, with(backendWaits(proxyRequests), Is("log", "cD"))...),
				Because: "towards the client HAProxy sends its FIN and then a RST, and keeps no TIME_WAIT where the client's FIN has not come in between (it is held " +
					"up on the way here); towards the servers it has all TIME_WAITs",
				Source: "configuration manual, timeout client, option nolinger",
			},
			{
				Name: "proxy-tcp-idle-nolinger-servers", Cells: onIdle.And(inTCP).And(Where{nolinger: {"servers"}}),
				Want:    with(frontendWaits, with(backendResets(proxyRequests), Is("log", "cD"))...),
				Because: "the server is reset, and HAProxy has TIME_WAITs towards the client only",
				Source:  "configuration manual, timeout client, option nolinger",
			},
			{
				Name: "proxy-tcp-idle", Cells: onIdle.And(inTCP),
				Want:    with(frontendWaits, with(backendWaits(proxyRequests), Stays(lab.Balancer, "Tcp.OutRsts"), Is("log", "cD"))...),
				Because: "HAProxy, whose timeout ends the connection, closes first on both sides and has both TIME_WAITs",
				Source:  "configuration manual, timeout client; " + closers,
			},
			{
				Name: "proxy-tcp-reset", Cells: byReset.And(inTCP),
				Want: with(served, with(backendResets(proxyRequests), Exactly("frontend TIME_WAIT", 0), AtLeast("client Tcp.OutRsts", proxyRequests),
					Is("log", "CD"), Exactly("cli_abrt", proxyRequests))...),
				Because: "in mode tcp HAProxy passes the client's RST on as a RST, and nobody waits; it counts each as an abort by the client",
				Source:  "tcp_reset; HAProxy 2.6: FD_LINGER_RISK; configuration manual, Session state at disconnection",
			},

			{
				Name: "proxy-http-reset", Cells: byReset.And(inHTTP),
				Want: with(served, Exactly("frontend TIME_WAIT", 0), Exactly("backend TIME_WAIT", 0), Exactly("server TIME_WAIT", 0),
					AtLeast("client Tcp.OutRsts", proxyRequests), allWell, Exactly("cli_abrt", 0)),
				Because: "in mode http the client's RST comes between two requests: it ends that connection without a TIME_WAIT, and HAProxy finds nothing wrong with it",
				Source:  "tcp_reset; configuration manual, Session state at disconnection",
			},
			{
				Name: "proxy-http-nolinger-client-first", Cells: append(byClient.And(inHTTP), hidden...).And(Where{nolinger: {"clients"}}),
				Want:    with(frontendResets, Exactly("backend TIME_WAIT", 0), AtLeast("balancer Tcp.OutRsts", proxyRequests), allWell),
				Because: "HAProxy answers the client's FIN by a RST, which ends the client's FIN_WAIT2: the client keeps no TIME_WAIT although it closed first",
				Source:  "configuration manual, option nolinger; tcp_reset",
			},
			{
				Name: "proxy-http-nolinger-haproxy-first", Cells: append(Cells{{ends: {"request", "idle"}}}.And(inHTTP), told...).And(Where{nolinger: {"clients"}}),
				Want: with(resetFirst, Exactly("backend TIME_WAIT", 0), allWell),
				Because: "HAProxy sends its FIN and then a RST, and keeps no TIME_WAIT where the client's FIN has not come in between (it is held up on the way here); " +
					"a response that the client's window has room for arrives in full before that (for others see proxyloss)",
				Source: "configuration manual, option nolinger; HAProxy 2.6: conn_sock_shutw, FD_LINGER_RISK",
			},
			{
				Name: "proxy-http-client-shared", Cells: byClient.And(inHTTP).And(Where{reuse: {"always"}}),
				Want:    with(clientWaits, with(shared, allWell)...),
				Because: "with http-reuse always one connection to the server does for all clients; that those come and go leaves TIME_WAITs with them only",
				Source:  pooled,
			},
			{
				Name: "proxy-http-client", Cells: byClient.And(inHTTP), Want: with(clientWaits, with(backendResets(proxyPorts-1), allWell)...),
				Because: "in mode http the client's FIN ends its own connection only; the one to the server is idle then, and HAProxy keeps it for another client or " +
					"ends it by a RST: towards the servers it never has TIME_WAITs",
				Source: risk,
			},
			{
				Name: "proxy-http-request-shared", Cells: byRequest.And(inHTTP).And(Where{reuse: {"always"}}),
				Want: with(frontendWaits, with(shared, allWell)...),
				Because: "Connection: close is between the client and HAProxy, which closes first and has the TIME_WAITs of the client's ports; the server's " +
					"connection stays",
				Source: "RFC 9110 section 7.6.1; " + pooled,
			},
			{
				Name: "proxy-http-request", Cells: byRequest.And(inHTTP), Want: with(frontendWaits, with(backendResets(proxyRequests-1), allWell)...),
				Because: "Connection: close of the client makes HAProxy close first: its frontend has the TIME_WAITs, one for each of the client's ports, and the " +
					"client's newer timestamp or sequence number takes that over; the server's connection is kept, or ended by a RST",
				Source: "RFC 9110 section 7.6.1; tcp_timewait_state_process; " + risk,
			},
			{
				Name: "proxy-http-idle-shared", Cells: onIdle.And(inHTTP).And(Where{reuse: {"always"}}), Want: with(frontendWaits, with(shared, allWell)...),
				Because: "timeout http-keep-alive makes HAProxy close first towards the client; the server's connection stays",
				Source:  "configuration manual, timeout http-keep-alive; " + pooled,
			},
			{
				Name: "proxy-http-idle", Cells: onIdle.And(inHTTP), Want: with(frontendWaits, with(backendResets(proxyRequests-1), allWell)...),
				Because: "timeout http-keep-alive makes HAProxy close first towards the client, and it has the TIME_WAITs; the server's connection is kept, or ended by a RST",
				Source:  "configuration manual, timeout http-keep-alive; " + risk,
			},
			{
				Name: "proxy-http-hidden", Cells: hidden.And(Where{server: {"waits"}}),
				Want: with(clientWaits, with(backendResets(proxyPorts), Exactly("backend ports", proxyPorts), allWell)...),
				Because: "HAProxy keeps the client's connection open when the server's ends, so the client closes first after all; the server's connection HAProxy ends " +
					"by a RST",
				Source: "configuration manual, option http-server-close; " + risk,
			},
			{
				Name: "proxy-http-hidden-late", Cells: hidden.And(Where{server: {"late"}}),
				Want:    with(clientWaits, with(resetByHAProxy(proxyPorts), Exactly("backend ports", proxyPorts), allWell)...),
				Because: "a server that closes by itself, but whose FIN comes later than its response, is reset by HAProxy all the same, and nobody waits",
				Source:  "configuration manual, option http-server-close; " + risk,
			},
			{
				Name: "proxy-http-hidden-first", Cells: hidden,
				Want: with(clientWaits, with(closedByServer(proxyPorts), allWell)...),
				Because: "a server that closes by itself, and whose FIN HAProxy finds with the response, keeps the TIME_WAIT: there is no risk of one at HAProxy " +
					"then, which closes without a RST",
				Source: "configuration manual, option http-server-close; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
			},
			{
				Name: "proxy-http-httpclose", Cells: told.And(Where{server: {"waits"}}),
				Want: with(frontendWaits, with(backendResets(proxyRequests), Exactly("backend ports", proxyRequests), allWell)...),
				Because: "option httpclose makes HAProxy close first on both sides, by a FIN towards the client, which leaves it the TIME_WAITs, and by a RST towards the " +
					"server, which leaves none",
				Source: "configuration manual, option httpclose; " + risk,
			},
			{
				Name: "proxy-http-httpclose-late", Cells: told.And(Where{server: {"late"}}),
				Want: with(frontendWaits, with(resetByHAProxy(proxyRequests), Exactly("backend ports", proxyRequests), allWell)...),
				Because: "option httpclose makes HAProxy close first towards the client; a server that closes by itself, but whose FIN comes later than its response, " +
					"is reset by HAProxy, and nobody waits there",
				Source: "configuration manual, option httpclose; " + risk,
			},
			{
				Name: "proxy-http-httpclose-first", Cells: told,
				Want: with(frontendWaits, with(closedByServer(proxyRequests), allWell)...),
				Because: "option httpclose makes HAProxy close first towards the client; a server that closes by itself, and whose FIN HAProxy finds with the " +
					"response, keeps the TIME_WAIT there",
				Source: "configuration manual, option httpclose; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
			},
		},
		Topology: func(c Cell) lab.Topology {
			t := lab.Topology{
				Clients: 1, Servers: 1,
				Sysctls: KeepTimeWaits(lab.Client, lab.Balancer, lab.Server).On(lab.Client, portRange(), "net.ipv4.tcp_tw_reuse=0"),
			}
			switch c.Value(balancer) {
			case "dnat":
				t.Balancer.Kind = lab.DNAT
			case "http", "tcp":
				config := proxyConfig(c.Value(balancer))
				config.NoLingerClients, config.NoLingerServers = c.Is(nolinger, "clients"), c.Is(nolinger, "servers")
				if c.Is(balancer, "http") {
					config.Reuse = haproxy.Reuse(c.Value(reuse))
				}
				switch c.Value(ends) {
				case "httpclose", "http-server-close":
					config.Connections = haproxy.Connections(c.Value(ends))
				case "idle":
					config.Timeouts.KeepAlive = soon
					if c.Is(balancer, "tcp") {
						config.Timeouts.Client = later // it counts from the beginning
					}
				}
				t.Balancer = lab.BalancerSpec{Program: haproxy.Balancer{Config: config}}
			}
			// Where HAProxy resets a connection that the other side ends at the same
			// time, that one's FIN would be in a race with the RST.
			if c.Is(server, "late") {
				t.Rules = append(t.Rules, holdUp("--sport 80 --tcp-flags FIN FIN"))
			}
			if c.Is(nolinger, "clients") && (c.Is(ends, "idle") || c.Is(balancer, "http") && c.Is(ends, "request", "httpclose")) {
				t.Rules = append(t.Rules, holdUp("--dport 80 --tcp-flags FIN FIN"))
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			p := Proxied{Requests: proxyRequests, Server: http.ListenSpec{HTTP: &http.Responder{Body: proxyBytes, JoinFIN: c.Is(server, "first")}}}
			var request http.Request
			p.Each.Ending = tcp.CloseAfterPeer
			if c.Is(server, "waits") {
				p.Server.Ending = tcp.CloseAfterPeer
			}
			switch c.Value(ends) {
			case "client", "http-server-close":
				p.Each.Ending = tcp.CloseFirst
			case "request":
				request.Connection = "close"
			case "server":
				p.Server.HTTP.Last = 1
				if c.Is(balancer, "http") { // the client will not hear of it
					p.Each.Ending = tcp.CloseFirst
				}
			case "idle":
				if !c.Is(balancer, "http") {
					p.AtOnce = proxyPorts // or everybody waits for one after the other
				}
				if c.Is(balancer, "dnat", "endpoint") {
					p.Server.HTTP.Idle = later
				}
			case "reset":
				p.Each.Ending = tcp.Abort
			}
			p.Each.Requests = []http.Request{request}
			return p.Drive(ctx, l)
		},
	}
}

const (
	proxyFirstPort = 50000
	proxyPorts     = 4
	proxyRequests  = 8

	proxyBytes = 1000 // of each response

	// soon and later are timeouts of HAProxy's: one that begins when nothing more
	// is to come, and one in which a request must get its answer. That takes 1 to
	// 50 ms.
	soon  = 20 * time.Millisecond
	later = 2 * time.Second
)

// holdUp is a rule of the balancer by which packets of TCP that match never arrive:
// as if they came too late for what the cell is about.
func holdUp(match string) lab.Rule {
	return lab.Rule{Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-p tcp " + match + " -j DROP"}
}

// portRange is the sysctl that gives a node proxyPorts local ports.
func portRange() string {
	return fmt.Sprintf("net.ipv4.ip_local_port_range=%d %d", proxyFirstPort, proxyFirstPort+proxyPorts-1)
}

// proxyConfig is a HAProxy that leaves its idle connections to servers alone while
// a cell is looked at.
func proxyConfig(mode string) haproxy.Config {
	return haproxy.Config{Mode: haproxy.Mode(mode), BackendLines: []string{"default-server pool-purge-delay 10m"}}
}
