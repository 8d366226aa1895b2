package proxy

import (
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

// proxyHTTPResetRules are about ends by a RST towards the client, in mode http: its own,
// or that of option nolinger.
func proxyHTTPResetRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxy-http-reset", Cells: clientResets.And(proxyInHTTP),
			Want: claim.With(served, claim.Exactly("frontend TIME_WAIT", 0), claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0),
				claim.AtLeast("client Tcp.OutRsts", proxyRequests), allWell, claim.Exactly("cli_abrt", 0)),
			Because: "in mode http the client's RST comes between two requests: it ends that connection without a TIME_WAIT, and HAProxy finds nothing wrong with it",
			Source:  "tcp_reset; configuration manual, Session state at disconnection",
		},
		{
			Name: "proxy-http-nolinger-client-first", Cells: append(clientEnds.And(proxyInHTTP), hidden...).And(claim.Where{proxyNolinger: {"clients"}}),
			Want:    claim.With(frontendResets, claim.Exactly("backend TIME_WAIT", 0), claim.AtLeast("balancer Tcp.OutRsts", proxyRequests), allWell),
			Because: "HAProxy answers the client's FIN by a RST, which ends the client's FIN_WAIT2: the client keeps no TIME_WAIT although it closed first",
			Source:  "configuration manual, option nolinger; tcp_reset",
		},
		{
			Name: "proxy-http-nolinger-haproxy-first", Cells: append(claim.Cells{{proxyEnds: {"request", "idle"}}}.And(proxyInHTTP), told...).And(claim.Where{proxyNolinger: {"clients"}}),
			Want: claim.With(resetFirst, claim.Exactly("backend TIME_WAIT", 0), allWell),
			Because: "HAProxy sends its FIN and then a RST, and keeps no TIME_WAIT where the client's FIN has not come in between (it is held up on the way here); " +
				"a response that the client's window has room for arrives in full before that (for others see proxyloss)",
			Source: "configuration manual, option nolinger; HAProxy 2.6: conn_sock_shutw, FD_LINGER_RISK",
		},
	}
}

// proxyHTTPRules are about the client, its request and the timeout, in mode http: the
// server has no say in it.
func proxyHTTPRules() []claim.Rule {
	byRequest := claim.Cells{{proxyEnds: {"request"}}}
	shared := []claim.Expectation{claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend ports", 1), claim.Exactly("kept", 1),
		claim.Stays(lab.Balancer, "Tcp.OutRsts")}

	return []claim.Rule{
		{
			Name: "proxy-http-client-shared", Cells: clientEnds.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}),
			Want:    claim.With(clientWaits, claim.With(shared, allWell)...),
			Because: "with http-reuse always one connection to the server does for all clients; that those come and go leaves TIME_WAITs with them only",
			Source:  pooled,
		},
		{
			Name: "proxy-http-client", Cells: clientEnds.And(proxyInHTTP), Want: claim.With(clientWaits, claim.With(backendResets(proxyPorts-1), allWell)...),
			Because: "in mode http the client's FIN ends its own connection only; the one to the server is idle then, and HAProxy keeps it for another client or " +
				"ends it by a RST: towards the servers it never has TIME_WAITs",
			Source: risk,
		},
		{
			Name: "proxy-http-request-shared", Cells: byRequest.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}),
			Want: claim.With(frontendWaits, claim.With(shared, allWell)...),
			Because: "Connection: close is between the client and HAProxy, which closes first and has the TIME_WAITs of the client's ports; the server's " +
				"connection stays",
			Source: "RFC 9110 section 7.6.1; " + pooled,
		},
		{
			Name: "proxy-http-request", Cells: byRequest.And(proxyInHTTP), Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests-1), allWell)...),
			Because: "Connection: close of the client makes HAProxy close first: its frontend has the TIME_WAITs, one for each of the client's ports, and the " +
				"client's newer timestamp or sequence number takes that over; the server's connection is kept, or ended by a RST",
			Source: "RFC 9110 section 7.6.1; tcp_timewait_state_process; " + risk,
		},
		{
			Name: "proxy-http-idle-shared", Cells: onIdle.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}), Want: claim.With(frontendWaits, claim.With(shared, allWell)...),
			Because: "timeout http-keep-alive makes HAProxy close first towards the client; the server's connection stays",
			Source:  "configuration manual, timeout http-keep-alive; " + pooled,
		},
		{
			Name: "proxy-http-idle", Cells: onIdle.And(proxyInHTTP), Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests-1), allWell)...),
			Because: "timeout http-keep-alive makes HAProxy close first towards the client, and it has the TIME_WAITs; the server's connection is kept, or ended by a RST",
			Source:  "configuration manual, timeout http-keep-alive; " + risk,
		},
	}
}

// proxyHTTPServerRules are about servers that are told to close, or do by themselves, in
// mode http.
func proxyHTTPServerRules() []claim.Rule {
	// A server that closes by itself, later or earlier than HAProxy does.
	resetByHAProxy := func(n int64) []claim.Expectation {
		return []claim.Expectation{claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0), claim.AtLeast("balancer Tcp.OutRsts", n)}
	}
	closedByServer := func(n int64) []claim.Expectation {
		return []claim.Expectation{
			claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", n), claim.Exactly("backend ports", n), claim.Stays(lab.Balancer, "Tcp.OutRsts"),
		}
	}

	return []claim.Rule{
		{
			Name: "proxy-http-hidden", Cells: hidden.And(claim.Where{proxyServer: {"waits"}}),
			Want: claim.With(clientWaits, claim.With(backendResets(proxyPorts), claim.Exactly("backend ports", proxyPorts), allWell)...),
			Because: "HAProxy keeps the client's connection open when the server's ends, so the client closes first after all; the server's connection HAProxy ends " +
				"by a RST",
			Source: "configuration manual, option http-server-close; " + risk,
		},
		{
			Name: "proxy-http-hidden-late", Cells: hidden.And(claim.Where{proxyServer: {"late"}}),
			Want:    claim.With(clientWaits, claim.With(resetByHAProxy(proxyPorts), claim.Exactly("backend ports", proxyPorts), allWell)...),
			Because: "a server that closes by itself, but whose FIN comes later than its response, is reset by HAProxy all the same, and nobody waits",
			Source:  "configuration manual, option http-server-close; " + risk,
		},
		{
			Name: "proxy-http-hidden-first", Cells: hidden,
			Want: claim.With(clientWaits, claim.With(closedByServer(proxyPorts), allWell)...),
			Because: "a server that closes by itself, and whose FIN HAProxy finds with the response, keeps the TIME_WAIT: there is no risk of one at HAProxy " +
				"then, which closes without a RST",
			Source: "configuration manual, option http-server-close; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
		},
		{
			Name: "proxy-http-httpclose", Cells: told.And(claim.Where{proxyServer: {"waits"}}),
			Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests), claim.Exactly("backend ports", proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first on both sides, by a FIN towards the client, which leaves it the TIME_WAITs, and by a RST towards the " +
				"server, which leaves none",
			Source: "configuration manual, option httpclose; " + risk,
		},
		{
			Name: "proxy-http-httpclose-late", Cells: told.And(claim.Where{proxyServer: {"late"}}),
			Want: claim.With(frontendWaits, claim.With(resetByHAProxy(proxyRequests), claim.Exactly("backend ports", proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first towards the client; a server that closes by itself, but whose FIN comes later than its response, " +
				"is reset by HAProxy, and nobody waits there",
			Source: "configuration manual, option httpclose; " + risk,
		},
		{
			Name: "proxy-http-httpclose-first", Cells: told,
			Want: claim.With(frontendWaits, claim.With(closedByServer(proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first towards the client; a server that closes by itself, and whose FIN HAProxy finds with the " +
				"response, keeps the TIME_WAIT there",
			Source: "configuration manual, option httpclose; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
		},
	}
}
