package scenarios

import (
	"context"
	"fmt"

	"twlab/harness/haproxy"
	"twlab/harness/http"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// ProxyLoss is the family of responses that HAProxy's client does not get in full,
// and who is told so.
func ProxyLoss() Family {
	const (
		mode     = "mode"
		cut      = "cut"
		framing  = "framing"
		nolinger = "nolinger"
		window   = "window"
	)
	inHTTP := Where{mode: {"http"}}
	measured := Where{framing: {"length", "chunked"}}
	// Where HAProxy closes a connection by FIN and RST. In mode tcp it does when it
	// finds the server's RST before it has passed on the last byte.
	reset := append(Cells{{nolinger: {"clients"}}}.And(inHTTP), Where{nolinger: {"clients"}, cut: {"server-rst"}})
	const lost = lossRequests * (lossBytes - lossCut)

	// The client can tell, or it cannot.
	truncated := []Expectation{Exactly("truncated", lossRequests), Exactly("bytes lost", lost), Exactly("whole", 0), Exactly("broken", 0),
		Stays(lab.Client, "Tcp.EstabResets")}
	unnoticed := []Expectation{Exactly("whole", lossRequests), Exactly("bytes lost", lost), Exactly("truncated", 0), Exactly("broken", 0),
		Stays(lab.Client, "Tcp.EstabResets")}
	// HAProxy throws away what its kernel has not sent yet: all that the small
	// window has no room for, since it opens no further (see Topology).
	thrownAway := []Expectation{Exactly("broken", lossRequests), Between("bytes lost", lossRequests*(lossBytes-smallWindow), lossRequests*lossBytes),
		AtLeast("client Tcp.EstabResets", lossRequests), AtLeast("balancer Tcp.OutRsts", lossRequests), Exactly("frontend TIME_WAIT", 0)}
	unsent := Where{nolinger: {"clients"}, window: {"small"}}
	const states = "configuration manual, Session state at disconnection"

	return Family{
		Name:     "proxyloss",
		Evidence: proxiedEvidence(),
		About: fmt.Sprintf("A client makes %d requests at once through HAProxy, each on a connection of its own that says Connection: close, "+
			"and somebody breaks off in the middle of the responses: how much arrives, and who notices?", lossRequests),
		Axes: []Axis{
			{Name: mode, Values: []string{"http", "tcp"}, Product: true, Means: "HAProxy's mode"},
			{Name: cut, Values: []string{"no", "server-fin", "server-rst", "server-stalls", "client-rst"}, Product: true,
				Means: "what happens in the middle of a response: nothing; the server closes, by FIN or by RST; the server stops until timeout server; " +
					"the server stops and the client gives up by RST before that"},
			{Name: framing, Values: []string{"length", "close", "chunked"},
				Means: "how the end of a response is told: Content-Length, chunks, or the end of the connection"},
			{Name: nolinger, Values: []string{"no", "clients"}, Means: "option nolinger of HAProxy's frontend"},
			{Name: window, Values: []string{"large", "small"},
				Means: "whether a whole response fits into the client's receive window, or tcp_rmem is 4096"},
		},
		Impossible: []Impossible{{
			Cells{{mode: {"tcp"}, cut: {"server-rst"}, nolinger: {"clients"}, window: {"small"}}},
			"whether HAProxy finds the server's RST before it has passed on the last byte, and so resets the client, is a race, and with it what gets lost",
		}},
		Rules: []Rule{
			{
				Name: "proxyloss-client-http", Cells: Cells{{cut: {"client-rst"}}}.And(inHTTP),
				Want: []Expectation{Exactly("given up", lossRequests), Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds()), Is("log", "sD--", "CD--"),
					AtLeast("client Tcp.OutRsts", lossRequests), AtLeast("server Tcp.EstabResets", lossRequests),
					Exactly("client TIME_WAIT", 0), Exactly("frontend TIME_WAIT", 0), Exactly("backend TIME_WAIT", 0)},
				Because: "in mode http HAProxy does not look at the client while it waits for the server: the client's RST changes nothing until timeout server; " +
					"then HAProxy 2.6 blames the server (sD) and 3.0 the client (CD)",
				Source: "configuration manual, option abortonclose; " + states,
			},
			{
				Name: "proxyloss-client-tcp", Cells: Cells{{cut: {"client-rst"}}},
				Want: []Expectation{Exactly("given up", lossRequests), Is("log", "CD"), Exactly("cli_abrt", lossRequests), Exactly("srv_abrt", 0),
					AtLeast("client Tcp.OutRsts", lossRequests), AtLeast("server Tcp.EstabResets", lossRequests), Exactly("backend TIME_WAIT", 0)},
				Because: "in mode tcp HAProxy passes the client's RST on as a RST at once",
				Source:  "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server; " + states,
			},
			{
				Name: "proxyloss-nolinger", Cells: Cells{{cut: {"no"}}}.And(unsent).And(inHTTP),
				Want: with(thrownAway, Is("log", "----"), Exactly("eresp", 0)),
				Because: "with option nolinger HAProxy resets the client when its kernel has taken the response: what the client's window has no room for at that time is " +
					"thrown away, the client gets a part and ECONNRESET, and HAProxy's log says that all is well (the window is opened by nobody here)",
				Source: "configuration manual, option nolinger; tcp_disconnect",
			},
			{
				Name: "proxyloss-none", Cells: Cells{{cut: {"no"}}},
				Want: []Expectation{Exactly("whole", lossRequests), Exactly("bytes lost", 0), Exactly("truncated", 0), Exactly("broken", 0),
					Is("log", "--", "----"), Exactly("eresp", 0), Exactly("srv_abrt", 0)},
				Because: "a FIN comes after the last byte, however small the window is; a RST does no harm to what has arrived, nor where HAProxy waits for the client's FIN",
				Source:  "RFC 9293 section 3.6; tcp_recvmsg_locked",
			},
			{
				Name: "proxyloss-cut-nolinger-unsent", Cells: Cells{{cut: {"server-fin", "server-rst"}}}.And(unsent).And(inHTTP),
				Want: with(thrownAway, Exactly("unanswered", 0), Exactly("errors", 0)),
				Because: "with option nolinger HAProxy resets the client as soon as the server has ended: of the part that the server sent, what the client's window has no " +
					"room for is lost as well",
				Source: "configuration manual, option nolinger; tcp_disconnect",
			},
			{
				Name: "proxyloss-cut-nolinger", Cells: reset.And(measured),
				Want: []Expectation{Exactly("truncated", lossRequests), Exactly("bytes lost", lost), Exactly("whole", 0), Exactly("broken", 0)},
				Because: "with option nolinger HAProxy sends a FIN and then a RST: what the window has room for has been sent before, and that it ends too early is told by " +
					"the FIN, not by an error",
				Source: "configuration manual, option nolinger; tcp_fin: SOCK_DONE, which tcp_recvmsg_locked looks at before the error",
			},
			{
				Name: "proxyloss-cut-nolinger-unnoticed", Cells: reset,
				Want:    []Expectation{Exactly("whole", lossRequests), Exactly("bytes lost", lost), Exactly("truncated", 0), Exactly("broken", 0)},
				Because: "with option nolinger HAProxy sends a FIN and then a RST, and the FIN is taken for the end of the response",
				Source:  "configuration manual, option nolinger; tcp_fin: SOCK_DONE, which tcp_recvmsg_locked looks at before the error",
			},
			{
				Name: "proxyloss-stall", Cells: Cells{{cut: {"server-stalls"}}}.And(measured),
				Want: with(truncated, Is("log", "sD", "sD--", "CD--"), Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds()),
					Exactly("frontend TIME_WAIT", lossRequests), Exactly("server TIME_WAIT", 0)),
				Because: "timeout server ends the response in the middle, and all that HAProxy can do by then is to close: the client counts what came against what was " +
					"announced. In mode http HAProxy 2.6 blames the server (sD) and 3.0 the client (CD)",
				Source: "configuration manual, timeout server; RFC 9112 section 8; " + states,
			},
			{
				Name: "proxyloss-stall-unnoticed", Cells: Cells{{cut: {"server-stalls"}}},
				Want:    with(unnoticed, Is("log", "sD", "sD--", "CD--"), Between("longest session", stall.Milliseconds(), 2*stall.Milliseconds())),
				Because: "a response that ends with its connection is whole to the client wherever it ends; only HAProxy's log tells",
				Source:  "RFC 9112 section 8; " + states,
			},
			{
				Name: "proxyloss-rst", Cells: Cells{{cut: {"server-rst"}}}.And(measured),
				Want: with(truncated, AtLeast("server Tcp.OutRsts", lossRequests), Exactly("server TIME_WAIT", 0), Exactly("backend TIME_WAIT", 0),
					Exactly("frontend TIME_WAIT", lossRequests)),
				Because: "HAProxy makes a FIN towards the client of the server's RST: the client gets no error from its kernel, and counts",
				Source:  "HAProxy 2.6: sc_shutw; RFC 9112 section 8",
			},
			{
				Name: "proxyloss-rst-unnoticed", Cells: Cells{{cut: {"server-rst"}}},
				Want: with(unnoticed, AtLeast("server Tcp.OutRsts", lossRequests), Exactly("server TIME_WAIT", 0), Exactly("backend TIME_WAIT", 0)),
				Because: "HAProxy makes a FIN towards the client of the server's RST, and a response that ends with its connection is then whole to the client: without HAProxy " +
					"it would have got ECONNRESET",
				Source: "HAProxy 2.6: sc_shutw; RFC 9112 section 8",
			},
			{
				Name: "proxyloss-fin-http", Cells: Cells{{cut: {"server-fin"}}}.And(measured).And(inHTTP),
				Want:    with(truncated, Is("log", "SD--"), Exactly("eresp", lossRequests), Exactly("srv_abrt", lossRequests), Exactly("server TIME_WAIT", lossRequests)),
				Because: "in mode http HAProxy counts as well, and logs that the server closed in the middle of the data (SD); the client gets the part and a FIN",
				Source:  "RFC 9112 section 8; " + states,
			},
			{
				Name: "proxyloss-fin-tcp", Cells: Cells{{cut: {"server-fin"}}}.And(measured),
				Want:    with(truncated, Is("log", "--"), Exactly("eresp", 0), Exactly("srv_abrt", 0), Exactly("server TIME_WAIT", lossRequests)),
				Because: "in mode tcp a FIN is a proper end to HAProxy; only the client can count",
				Source:  "RFC 9112 section 8; " + states,
			},
			{
				Name: "proxyloss-fin-unnoticed", Cells: Cells{{}},
				Want:    with(unnoticed, Is("log", "--", "----"), Exactly("eresp", 0), Exactly("srv_abrt", 0), Exactly("server TIME_WAIT", lossRequests)),
				Because: "a response that ends with its connection is whole wherever it ends, to the client and to HAProxy",
				Source:  "RFC 9112 section 8",
			},
		},
		Topology: func(c Cell) lab.Topology {
			config := proxyConfig(c.Value(mode))
			config.NoLingerClients = c.Is(nolinger, "clients")
			if c.Is(cut, "server-stalls", "client-rst") {
				config.Timeouts.Server = stall
			}
			t := lab.Topology{
				Clients: 1, Servers: 1, Balancer: lab.BalancerSpec{Program: haproxy.Balancer{Config: config}},
				Sysctls: KeepTimeWaits(lab.Client, lab.Balancer, lab.Server),
			}
			if c.Is(window, "small") {
				t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_rmem=%[1]d %[1]d %[1]d", smallWindow))
			}
			// The client's acknowledgements open its window again, in a race with
			// HAProxy's RST. Its request carries the one that the handshake needs.
			if c.Is(mode, "http") && c.Is(nolinger, "clients") && c.Is(window, "small") && c.Is(cut, "no", "server-fin", "server-rst") {
				t.Rules = append(t.Rules, holdUp("--dport 80 --tcp-flags SYN,FIN,RST,PSH,ACK ACK"))
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
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
		},
	}
}

const (
	lossRequests = 4
	// lossBytes is a response that HAProxy has in its buffer, and the kernel's
	// first congestion window has room for: all of it is sent at once.
	lossBytes = 12 << 10
	lossCut   = lossBytes / 2
	// smallWindow has no room for a response, nor for the part that is cut off it.
	smallWindow = 4 << 10
)
