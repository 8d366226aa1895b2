package proxy

import (
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

// Which side ends a connection, and which balancer is in between.
var (
	proxyInHTTP = claim.Where{proxyBalancer: {"http"}}
	inTCP       = claim.Where{proxyBalancer: {"tcp"}}

	clientEnds   = claim.Cells{{proxyEnds: {"client"}}}
	onIdle       = claim.Cells{{proxyEnds: {"idle"}}}
	clientResets = claim.Cells{{proxyEnds: {"reset"}}}
	byServer     = claim.Cells{{proxyEnds: {"request", "server", "idle"}}} // without a HAProxy in between

	// HAProxy in mode http does not tell the client that the server closes (hidden), or
	// option httpclose closes on both sides (told).
	hidden = claim.Cells{{proxyBalancer: {"http"}, proxyEnds: {"http-server-close", "server"}}}
	told   = claim.Cells{{proxyBalancer: {"http"}, proxyEnds: {"httpclose"}}}
)

// What the client has afterwards: it closed first, and its ports are in TIME_WAIT; or the
// other side closed first.
var (
	clientWaits = []claim.Expectation{
		claim.Exactly("whole", proxyPorts), claim.Exactly("client TIME_WAIT", proxyPorts), claim.Exactly("no port", proxyRequests-proxyPorts), claim.Exactly("frontend TIME_WAIT", 0),
		claim.Exactly("bytes lost", 0), claim.Stays(lab.Client, "Tcp.OutRsts"),
	}
	served = []claim.Expectation{
		claim.Exactly("whole", proxyRequests), claim.Exactly("client TIME_WAIT", 0), claim.Exactly("no port", 0), claim.Exactly("bytes lost", 0),
	}
	frontendWaits  = claim.With(served, claim.Is("client ports in frontend TIME_WAIT", "all"), claim.Between("frontend TIME_WAIT", 1, proxyPorts), claim.Stays(lab.Client, "Tcp.OutRsts"), claim.Stays(lab.Client, "Tcp.EstabResets"))
	frontendResets = claim.With(served, claim.Exactly("frontend TIME_WAIT", 0), claim.Stays(lab.Client, "Tcp.OutRsts"))
	// The client's FIN has not come when HAProxy closes: see proxyTopology.
	resetFirst = claim.With(frontendResets, claim.AtLeast("balancer Tcp.OutRsts", proxyRequests))
)

// Expectations about a balancer that is not an endpoint of the connection, and about the
// log of a HAProxy that found no error.
var (
	noBackend = []claim.Expectation{claim.Exactly("backend TIME_WAIT", 0), claim.Stays(lab.Balancer, "Tcp.OutRsts")}
	allWell   = claim.Is("log", "----")
)

// backendWaits is what is expected if HAProxy closes first towards the servers.
func backendWaits(n int64) []claim.Expectation {
	return []claim.Expectation{claim.Exactly("backend TIME_WAIT", n), claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend ports", n)}
}

// backendResets is what is expected if HAProxy ends its connections to servers with a RST.
func backendResets(n int64) []claim.Expectation {
	return []claim.Expectation{
		claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0),
		claim.AtLeast("balancer Tcp.OutRsts", n), claim.AtLeast("server Tcp.EstabResets", n),
	}
}

// Sources that several rules share.
const (
	risk    = "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server, fd_delete"
	pooled  = "configuration manual, http-reuse; HAProxy 2.6: srv_add_to_idle_list, FD_LINGER_RISK in tcp_connect_server"
	closers = "RFC 9293 section 3.6; tcp_time_wait"
)

// proxyDNATRules are about DNAT, which is not an endpoint of the connection.
func proxyDNATRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxy-dnat-client", Cells: clientEnds.And(claim.Where{proxyBalancer: {"dnat"}}),
			Want:  claim.With(clientWaits, claim.With(noBackend, claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend ports", proxyPorts))...),
			Cause: "ports-exhausted",
			Because: "DNAT is not an endpoint of the connection: only the client, which closes first, has a TIME_WAIT, and the server sees the " +
				"client's own ports",
			Source: closers + "; nf_nat_setup_info",
		},
		{
			Name: "proxy-dnat-server", Cells: byServer.And(claim.Where{proxyBalancer: {"dnat"}}),
			Want: claim.With(served, claim.With(noBackend, claim.Exactly("frontend TIME_WAIT", 0), claim.Is("backend ports in server TIME_WAIT", "all"),
				claim.Between("server TIME_WAIT", 1, proxyPorts))...),
			Because: "behind DNAT the server closes first and has the TIME_WAITs, one for each of the client's ports; the client's newer timestamp " +
				"or sequence number replaces them",
			Source: closers + "; tcp_timewait_state_process",
		},
		{
			Name: "proxy-dnat-reset", Cells: clientResets.And(claim.Where{proxyBalancer: {"dnat"}}),
			Want: claim.With(served, claim.With(noBackend, claim.Exactly("frontend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0),
				claim.AtLeast("client Tcp.OutRsts", proxyRequests), claim.AtLeast("server Tcp.EstabResets", proxyRequests))...),
			Because: "behind DNAT the client's RST ends the server's connection, and no side has a TIME_WAIT",
			Source:  "tcp_close, tcp_reset",
		},
	}
}

// proxyEndpointRules are about a client that connects to the server directly.
func proxyEndpointRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxy-endpoint-client", Cells: clientEnds.And(claim.Where{proxyBalancer: {"endpoint"}}), Want: claim.With(clientWaits, noBackend...),
			Cause:   "ports-exhausted",
			Because: "without a balancer only the client, which closes first, has a TIME_WAIT",
			Source:  closers,
		},
		{
			Name: "proxy-endpoint-server", Cells: byServer.And(claim.Where{proxyBalancer: {"endpoint"}}), Want: claim.With(frontendWaits, noBackend...),
			Because: "without a balancer the server closes first and has the TIME_WAITs, one for each of the client's ports; the client's newer " +
				"timestamp or sequence number replaces them",
			Source: closers + "; tcp_timewait_state_process",
		},
		{
			Name: "proxy-endpoint-reset", Cells: clientResets.And(claim.Where{proxyBalancer: {"endpoint"}}),
			Want: claim.With(served, claim.With(noBackend, claim.Exactly("frontend TIME_WAIT", 0), claim.AtLeast("client Tcp.OutRsts", proxyRequests),
				claim.AtLeast("balancer Tcp.EstabResets", proxyRequests))...),
			Because: "a RST ends the connection on both sides, and no side has a TIME_WAIT",
			Source:  "tcp_close, tcp_reset",
		},
	}
}

// proxyTCPRules are about HAProxy in mode tcp, which passes FINs and RSTs on.
func proxyTCPRules() []claim.Rule {
	serverWaits := []claim.Expectation{
		claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", proxyRequests), claim.Exactly("backend ports", proxyRequests),
		claim.Stays(lab.Balancer, "Tcp.OutRsts"),
	}

	return []claim.Rule{
		{
			Name: "proxy-tcp-client-nolinger-clients", Cells: clientEnds.And(inTCP).And(claim.Where{proxyNolinger: {"clients"}}),
			Want: claim.With(frontendResets, claim.With(backendWaits(proxyRequests), claim.AtLeast("balancer Tcp.OutRsts", proxyRequests), claim.Is("log", "--"))...),
			Because: "HAProxy answers the client's FIN with a RST, which ends the client's FIN_WAIT2: the client keeps no TIME_WAIT, although it " +
				"closed first. Towards the servers nothing changes",
			Source: "configuration manual, option nolinger; tcp_reset",
		},
		{
			Name: "proxy-tcp-client-nolinger-servers", Cells: clientEnds.And(inTCP).And(claim.Where{proxyNolinger: {"servers"}}),
			Want:  claim.With(clientWaits, claim.With(backendResets(proxyPorts), claim.Is("log", "--"))...),
			Cause: "ports-exhausted",
			Because: "HAProxy ends its connection to the server with a RST instead of a FIN, and has no TIME_WAIT there; the client still has its " +
				"own",
			Source: "configuration manual, option nolinger; tcp_close",
		},
		{
			Name: "proxy-tcp-client", Cells: clientEnds.And(inTCP),
			Want:  claim.With(clientWaits, claim.With(backendWaits(proxyPorts), claim.Stays(lab.Balancer, "Tcp.OutRsts"), claim.Is("log", "--"))...),
			Cause: "ports-exhausted",
			Because: "in mode tcp HAProxy passes the client's FIN on, and so closes first towards the server: one connection leaves two " +
				"TIME_WAITs, one at the client and one at HAProxy",
			Source: "HAProxy 2.6: sc_shutw, conn_sock_shutw; " + closers,
		},
		{
			Name: "proxy-tcp-server", Cells: claim.Cells{{proxyBalancer: {"tcp"}, proxyEnds: {"request", "server"}}},
			Want: claim.With(frontendWaits, claim.With(serverWaits, claim.Is("log", "--"))...),
			Because: "in mode tcp the server closes first, and HAProxy passes its FIN on: the server has the TIME_WAITs of all connections, and " +
				"HAProxy has those of the client's ports. option nolinger has no effect, because both sides are closed already when HAProxy " +
				"closes",
			Source: "HAProxy 2.6: sc_shutw, conn_sock_shutw; " + closers,
		},
		{
			Name: "proxy-tcp-idle-nolinger-clients", Cells: onIdle.And(inTCP).And(claim.Where{proxyNolinger: {"clients"}}),
			Want: claim.With(resetFirst, claim.With(backendWaits(proxyRequests), claim.Is("log", "cD"))...),
			Because: "towards the client HAProxy sends a FIN and then a RST, and keeps no TIME_WAIT if the client's FIN has not come in between " +
				"(here it is held up on the way); towards the servers it has all TIME_WAITs",
			Source: "configuration manual, timeout client, option nolinger",
		},
		{
			Name: "proxy-tcp-idle-nolinger-servers", Cells: onIdle.And(inTCP).And(claim.Where{proxyNolinger: {"servers"}}),
			Want:    claim.With(frontendWaits, claim.With(backendResets(proxyRequests), claim.Is("log", "cD"))...),
			Because: "HAProxy resets the connection to the server, and has TIME_WAITs towards the client only",
			Source:  "configuration manual, timeout client, option nolinger",
		},
		{
			Name: "proxy-tcp-idle", Cells: onIdle.And(inTCP),
			Want:    claim.With(frontendWaits, claim.With(backendWaits(proxyRequests), claim.Stays(lab.Balancer, "Tcp.OutRsts"), claim.Is("log", "cD"))...),
			Because: "HAProxy's timeout ends the connection, so HAProxy closes first on both sides and has both TIME_WAITs",
			Source:  "configuration manual, timeout client; " + closers,
		},
		{
			Name: "proxy-tcp-reset", Cells: clientResets.And(inTCP),
			Want: claim.With(served, claim.With(backendResets(proxyRequests), claim.Exactly("frontend TIME_WAIT", 0), claim.AtLeast("client Tcp.OutRsts", proxyRequests),
				claim.Is("log", "CD"), claim.Exactly("cli_abrt", proxyRequests))...),
			Because: "in mode tcp HAProxy passes the client's RST on as a RST, and no side has a TIME_WAIT; HAProxy counts each RST as an abort by " +
				"the client",
			Source: "tcp_reset; HAProxy 2.6: FD_LINGER_RISK; configuration manual, Session state at disconnection",
		},
	}
}
