package proxy

import (
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

// proxyHTTPResetRules are about a RST on the client's side, in mode http: the client's own,
// or that of option nolinger.
func proxyHTTPResetRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxy-http-reset", Cells: clientResets.And(proxyInHTTP),
			Want: claim.With(served, claim.Exactly("frontend TIME_WAIT", 0), claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0),
				claim.AtLeast("client Tcp.OutRsts", proxyRequests), allWell, claim.Exactly("cli_abrt", 0)),
			Because: "in mode http the client's RST comes between two requests: it ends that connection without a TIME_WAIT, and HAProxy logs no " +
				"error",
			Source: "tcp_reset; configuration manual, Session state at disconnection",
		},
		{
			Name: "proxy-http-nolinger-client-first", Cells: append(clientEnds.And(proxyInHTTP), hidden...).And(claim.Where{proxyNolinger: {"clients"}}),
			Want: claim.With(frontendResets, claim.Exactly("backend TIME_WAIT", 0), claim.AtLeast("balancer Tcp.OutRsts", proxyRequests), allWell),
			Because: "HAProxy answers the client's FIN with a RST, which ends the client's FIN_WAIT2: the client keeps no TIME_WAIT, although it " +
				"closed first",
			Source: "configuration manual, option nolinger; tcp_reset",
		},
		{
			Name: "proxy-http-nolinger-haproxy-first", Cells: append(claim.Cells{{proxyEnds: {"request", "idle"}}}.And(proxyInHTTP), told...).And(claim.Where{proxyNolinger: {"clients"}}),
			Want: claim.With(resetFirst, claim.Exactly("backend TIME_WAIT", 0), allWell),
			Because: "HAProxy sends a FIN and then a RST, and keeps no TIME_WAIT if the client's FIN has not come in between (here it is held up " +
				"on the way). A response that fits into the client's window arrives complete before that (for others see proxyloss)",
			Source: "configuration manual, option nolinger; HAProxy 2.6: conn_sock_shutw, FD_LINGER_RISK",
		},
	}
}

// proxyHTTPRules are about the client, its request and the timeout, in mode http: what the
// server does has no effect.
func proxyHTTPRules() []claim.Rule {
	byRequest := claim.Cells{{proxyEnds: {"request"}}}
	shared := []claim.Expectation{claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend ports", 1), claim.Exactly("kept", 1),
		claim.Stays(lab.Balancer, "Tcp.OutRsts")}

	return []claim.Rule{
		{
			Name: "proxy-http-client-shared", Cells: clientEnds.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}),
			Want:  claim.With(clientWaits, claim.With(shared, allWell)...),
			Cause: "ports-exhausted",
			Because: "with http-reuse always, one connection to the server serves all clients: clients that connect and close leave TIME_WAITs " +
				"only on their own side",
			Source: pooled,
		},
		{
			Name: "proxy-http-client", Cells: clientEnds.And(proxyInHTTP), Want: claim.With(clientWaits, claim.With(backendResets(proxyPorts-1), allWell)...),
			Cause: "ports-exhausted",
			Because: "in mode http the client's FIN ends only its own connection. The connection to the server is then idle, and HAProxy keeps it " +
				"for another client or ends it with a RST: towards the servers HAProxy never has TIME_WAITs",
			Source: risk,
		},
		{
			Name: "proxy-http-request-shared", Cells: byRequest.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}),
			Want: claim.With(frontendWaits, claim.With(shared, allWell)...),
			Because: "Connection: close applies between the client and HAProxy, which closes first and has the TIME_WAITs of the client's ports; " +
				"the connection to the server stays open",
			Source: "RFC 9110 section 7.6.1; " + pooled,
		},
		{
			Name: "proxy-http-request", Cells: byRequest.And(proxyInHTTP), Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests-1), allWell)...),
			Because: "Connection: close from the client makes HAProxy close first: its frontend has the TIME_WAITs, one for each of the client's " +
				"ports, and the client's newer timestamp or sequence number replaces them. The connection to the server is kept, or ended " +
				"with a RST",
			Source: "RFC 9110 section 7.6.1; tcp_timewait_state_process; " + risk,
		},
		{
			Name: "proxy-http-idle-shared", Cells: onIdle.And(proxyInHTTP).And(claim.Where{httpReuse: {"always"}}), Want: claim.With(frontendWaits, claim.With(shared, allWell)...),
			Because: "timeout http-keep-alive makes HAProxy close first towards the client; the connection to the server stays open",
			Source:  "configuration manual, timeout http-keep-alive; " + pooled,
		},
		{
			Name: "proxy-http-idle", Cells: onIdle.And(proxyInHTTP), Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests-1), allWell)...),
			Because: "timeout http-keep-alive makes HAProxy close first towards the client, so HAProxy has the TIME_WAITs; the connection to the " +
				"server is kept, or ended with a RST",
			Source: "configuration manual, timeout http-keep-alive; " + risk,
		},
	}
}

// proxyHTTPServerRules are about servers that are told to close, or close by themselves, in
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
			Want:  claim.With(clientWaits, claim.With(backendResets(proxyPorts), claim.Exactly("backend ports", proxyPorts), allWell)...),
			Cause: "ports-exhausted",
			Because: "HAProxy keeps the client's connection open when the server's connection ends, so the client still closes first; HAProxy ends " +
				"the connection to the server with a RST",
			Source: "configuration manual, option http-server-close; " + risk,
		},
		{
			Name: "proxy-http-hidden-late", Cells: hidden.And(claim.Where{proxyServer: {"late"}}),
			Want:  claim.With(clientWaits, claim.With(resetByHAProxy(proxyPorts), claim.Exactly("backend ports", proxyPorts), allWell)...),
			Cause: "ports-exhausted",
			Because: "if a server closes by itself, but its FIN comes later than its response, HAProxy resets the connection all the same, and " +
				"neither of the two has a TIME_WAIT",
			Source: "configuration manual, option http-server-close; " + risk,
		},
		{
			Name: "proxy-http-hidden-first", Cells: hidden,
			Want:  claim.With(clientWaits, claim.With(closedByServer(proxyPorts), allWell)...),
			Cause: "ports-exhausted",
			Because: "if a server closes by itself, and HAProxy receives its FIN together with the response, the server keeps the TIME_WAIT: " +
				"HAProxy then runs no risk of having one, and closes without a RST",
			Source: "configuration manual, option http-server-close; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
		},
		{
			Name: "proxy-http-httpclose", Cells: told.And(claim.Where{proxyServer: {"waits"}}),
			Want: claim.With(frontendWaits, claim.With(backendResets(proxyRequests), claim.Exactly("backend ports", proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first on both sides: with a FIN towards the client, which leaves the TIME_WAITs at " +
				"HAProxy, and with a RST towards the server, which leaves none",
			Source: "configuration manual, option httpclose; " + risk,
		},
		{
			Name: "proxy-http-httpclose-late", Cells: told.And(claim.Where{proxyServer: {"late"}}),
			Want: claim.With(frontendWaits, claim.With(resetByHAProxy(proxyRequests), claim.Exactly("backend ports", proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first towards the client. If a server closes by itself, but its FIN comes later than " +
				"its response, HAProxy resets that connection, and neither of the two has a TIME_WAIT",
			Source: "configuration manual, option httpclose; " + risk,
		},
		{
			Name: "proxy-http-httpclose-first", Cells: told,
			Want: claim.With(frontendWaits, claim.With(closedByServer(proxyRequests), allWell)...),
			Because: "option httpclose makes HAProxy close first towards the client. If a server closes by itself, and HAProxy receives its FIN " +
				"together with the response, the server keeps the TIME_WAIT there",
			Source: "configuration manual, option httpclose; HAProxy 2.6: raw_sock_to_buf (FD_POLL_HUP), conn_sock_read0 clears FD_LINGER_RISK",
		},
	}
}
