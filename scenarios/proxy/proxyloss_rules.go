package proxy

import (
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

// Cells in which a client can count the bytes, and cells in which its window has no room
// for the response when HAProxy resets it.
var (
	lossInHTTP = claim.Where{lossMode: {"http"}}
	measured   = claim.Where{framing: {"length", "chunked"}}
	unsent     = claim.Where{lossNolinger: {"clients"}, window: {"small"}}
)

// lossTotal is the number of bytes that are cut off, of all responses together.
const lossTotal = lossRequests * (lossBytes - lossCut)

// The client notices the loss, or it does not.
var (
	truncated = []claim.Expectation{claim.Exactly("truncated", lossRequests), claim.Exactly("bytes lost", lossTotal), claim.Exactly("whole", 0), claim.Exactly("broken", 0),
		claim.Stays(lab.Client, "Tcp.EstabResets")}
	unnoticed = []claim.Expectation{claim.Exactly("whole", lossRequests), claim.Exactly("bytes lost", lossTotal), claim.Exactly("truncated", 0), claim.Exactly("broken", 0),
		claim.Stays(lab.Client, "Tcp.EstabResets")}
)

// Or HAProxy discards what its kernel has not sent yet: everything that does not fit into
// the small window, which does not open any further (see lossTopology).
var thrownAway = []claim.Expectation{claim.Exactly("broken", lossRequests), claim.Between("bytes lost", lossRequests*(lossBytes-smallWindow), lossRequests*lossBytes),
	claim.AtLeast("client Tcp.EstabResets", lossRequests), claim.AtLeast("balancer Tcp.OutRsts", lossRequests), claim.Exactly("frontend TIME_WAIT", 0)}

// lossStates is the source that explains the states in the log.
const lossStates = "configuration manual, Session state at disconnection"

// lossClientRules are about a client that gives up.
func lossClientRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyloss-client-http", Cells: claim.Cells{{cut: {"client-rst"}}}.And(lossInHTTP),
			Want: []claim.Expectation{claim.Exactly("given up", lossRequests), claim.Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds()), claim.Is("log", "sD--", "CD--"),
				claim.AtLeast("client Tcp.OutRsts", lossRequests), claim.AtLeast("server Tcp.EstabResets", lossRequests),
				claim.Exactly("client TIME_WAIT", 0), claim.Exactly("frontend TIME_WAIT", 0), claim.Exactly("backend TIME_WAIT", 0)},
			Cause: "client-gave-up",
			Because: "in mode http HAProxy does not watch the client while it waits for the server: the client's RST has no effect until timeout " +
				"server. Then HAProxy 2.6 blames the server (sD), and 3.0 blames the client (CD)",
			Source: "configuration manual, option abortonclose; " + lossStates,
		},
		{
			Name: "proxyloss-client-tcp", Cells: claim.Cells{{cut: {"client-rst"}}},
			Want: []claim.Expectation{claim.Exactly("given up", lossRequests), claim.Is("log", "CD"), claim.Exactly("cli_abrt", lossRequests), claim.Exactly("srv_abrt", 0),
				claim.AtLeast("client Tcp.OutRsts", lossRequests), claim.AtLeast("server Tcp.EstabResets", lossRequests), claim.Exactly("backend TIME_WAIT", 0)},
			Cause:   "client-gave-up",
			Because: "in mode tcp HAProxy passes the client's RST on at once, as a RST",
			Source:  "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server; " + lossStates,
		},
	}
}

// takenForWhole is why a rule names no cause although bytes are lost.
const takenForWhole = "the client sees no error: it takes what came for the whole response"

// lossNoneRules are about responses that no side breaks off.
func lossNoneRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyloss-nolinger", Cells: claim.Cells{{cut: {"no"}}}.And(unsent).And(lossInHTTP),
			Want:  claim.With(thrownAway, claim.Is("log", "----"), claim.Exactly("eresp", 0)),
			Cause: "linger-reset",
			Because: "with option nolinger HAProxy resets the client as soon as its own kernel has taken the response. What does not fit into the " +
				"client's window at that time is discarded: the client gets a part and ECONNRESET, and HAProxy's log shows no error (here the " +
				"window does not open any further)",
			Source: "configuration manual, option nolinger; tcp_disconnect",
		},
		{
			Name: "proxyloss-none", Cells: claim.Cells{{cut: {"no"}}},
			Want: []claim.Expectation{claim.Exactly("whole", lossRequests), claim.Exactly("bytes lost", 0), claim.Exactly("truncated", 0), claim.Exactly("broken", 0),
				claim.Is("log", "--", "----"), claim.Exactly("eresp", 0), claim.Exactly("srv_abrt", 0)},
			Because: "a FIN comes after the last byte, however small the window is; a RST does no harm to data that has arrived, or if HAProxy " +
				"waits for the client's FIN",
			Source: "RFC 9293 section 3.6; tcp_recvmsg_locked",
		},
	}
}

// lossNolingerRules are about a server that breaks off, and option nolinger towards the
// client.
func lossNolingerRules() []claim.Rule {
	// Cells in which HAProxy closes with a FIN and a RST. In mode tcp it does so if it sees
	// the server's RST before it has passed on the last byte.
	reset := append(claim.Cells{{lossNolinger: {"clients"}}}.And(lossInHTTP), claim.Where{lossNolinger: {"clients"}, cut: {"server-rst"}})

	return []claim.Rule{
		{
			Name: "proxyloss-cut-nolinger-unsent", Cells: claim.Cells{{cut: {"server-fin", "server-rst"}}}.And(unsent).And(lossInHTTP),
			Want:  claim.With(thrownAway, claim.Exactly("unanswered", 0), claim.Exactly("errors", 0)),
			Cause: "linger-reset",
			Because: "with option nolinger HAProxy resets the client as soon as the server has ended the connection: of the part that the server " +
				"sent, what does not fit into the client's window is lost too",
			Source: "configuration manual, option nolinger; tcp_disconnect",
		},
		{
			Name: "proxyloss-cut-nolinger", Cells: reset.And(measured),
			Want:  []claim.Expectation{claim.Exactly("truncated", lossRequests), claim.Exactly("bytes lost", lossTotal), claim.Exactly("whole", 0), claim.Exactly("broken", 0)},
			Cause: "cut-short", OtherCauses: []claim.CauseIn{{Cells: claim.Cells{{cut: {"server-rst"}}}, Cause: "fin-made-of-reset"}, {Cells: claim.Cells{{cut: {"server-stalls"}}}, Cause: "lb-gave-up"}},
			Because: "with option nolinger HAProxy sends a FIN and then a RST. What fits into the window has been sent before, and the FIN tells " +
				"the client that the response ends too early, not an error",
			Source: "configuration manual, option nolinger; tcp_fin: SOCK_DONE, which tcp_recvmsg_locked looks at before the error",
		},
		{
			Name: "proxyloss-cut-nolinger-unnoticed", Cells: reset,
			Want:     []claim.Expectation{claim.Exactly("whole", lossRequests), claim.Exactly("bytes lost", lossTotal), claim.Exactly("truncated", 0), claim.Exactly("broken", 0)},
			Uncaused: takenForWhole,
			Because:  "with option nolinger HAProxy sends a FIN and then a RST, and the client takes the FIN for the end of the response",
			Source:   "configuration manual, option nolinger; tcp_fin: SOCK_DONE, which tcp_recvmsg_locked looks at before the error",
		},
	}
}

// lossStallRules are about a server that stops.
func lossStallRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyloss-stall", Cells: claim.Cells{{cut: {"server-stalls"}}}.And(measured),
			Want: claim.With(truncated, claim.Is("log", "sD", "sD--", "CD--"), claim.Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds()),
				claim.Exactly("frontend TIME_WAIT", lossRequests), claim.Exactly("server TIME_WAIT", 0)),
			Cause: "lb-gave-up",
			Because: "timeout server ends the response in the middle, and HAProxy can only close then: the client compares the bytes that came " +
				"with the announced length. In mode http HAProxy 2.6 blames the server (sD), and 3.0 blames the client (CD)",
			Source: "configuration manual, timeout server; RFC 9112 section 8; " + lossStates,
		},
		{
			Name: "proxyloss-stall-unnoticed", Cells: claim.Cells{{cut: {"server-stalls"}}},
			Want:     claim.With(unnoticed, claim.Is("log", "sD", "sD--", "CD--"), claim.Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds())),
			Uncaused: takenForWhole,
			Because: "if the end of the connection is the end of the response, the client takes any part for the whole response; only HAProxy's " +
				"log shows the timeout",
			Source: "RFC 9112 section 8; " + lossStates,
		},
	}
}

// lossServerRules are about a server that breaks off.
func lossServerRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyloss-rst", Cells: claim.Cells{{cut: {"server-rst"}}}.And(measured),
			Want: claim.With(truncated, claim.AtLeast("server Tcp.OutRsts", lossRequests), claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend TIME_WAIT", 0),
				claim.Exactly("frontend TIME_WAIT", lossRequests)),
			Cause: "fin-made-of-reset",
			Because: "HAProxy turns the server's RST into a FIN towards the client: the client gets no error from its kernel, and must count the " +
				"bytes",
			Source: "HAProxy 2.6: sc_shutw; RFC 9112 section 8",
		},
		{
			Name: "proxyloss-rst-unnoticed", Cells: claim.Cells{{cut: {"server-rst"}}},
			Want:     claim.With(unnoticed, claim.AtLeast("server Tcp.OutRsts", lossRequests), claim.Exactly("server TIME_WAIT", 0), claim.Exactly("backend TIME_WAIT", 0)),
			Uncaused: takenForWhole,
			Because: "HAProxy turns the server's RST into a FIN towards the client. If the end of the connection is the end of the response, the " +
				"client takes the part for the whole response; without HAProxy it would have got ECONNRESET",
			Source: "HAProxy 2.6: sc_shutw; RFC 9112 section 8",
		},
		{
			Name: "proxyloss-fin-http", Cells: claim.Cells{{cut: {"server-fin"}}}.And(measured).And(lossInHTTP),
			Want:  claim.With(truncated, claim.Is("log", "SD--"), claim.Exactly("eresp", lossRequests), claim.Exactly("srv_abrt", lossRequests), claim.Exactly("server TIME_WAIT", lossRequests)),
			Cause: "cut-short",
			Because: "in mode http HAProxy counts the bytes too, and logs that the server closed in the middle of the data (SD); the client gets " +
				"the part and a FIN",
			Source: "RFC 9112 section 8; " + lossStates,
		},
		{
			Name: "proxyloss-fin-tcp", Cells: claim.Cells{{cut: {"server-fin"}}}.And(measured),
			Want:    claim.With(truncated, claim.Is("log", "--"), claim.Exactly("eresp", 0), claim.Exactly("srv_abrt", 0), claim.Exactly("server TIME_WAIT", lossRequests)),
			Cause:   "cut-short",
			Because: "in mode tcp a FIN is a normal end for HAProxy; only the client can count the bytes",
			Source:  "RFC 9112 section 8; " + lossStates,
		},
		{
			Name: "proxyloss-fin-unnoticed", Cells: claim.Cells{{}},
			Want:     claim.With(unnoticed, claim.Is("log", "--", "----"), claim.Exactly("eresp", 0), claim.Exactly("srv_abrt", 0), claim.Exactly("server TIME_WAIT", lossRequests)),
			Uncaused: takenForWhole,
			Because:  "if the end of the connection is the end of the response, the client and HAProxy take any part for the whole response",
			Source:   "RFC 9112 section 8",
		},
	}
}
