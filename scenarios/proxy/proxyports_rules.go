package proxy

import (
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

// portsAll is what is expected if every request gets its response.
var portsAll = []claim.Expectation{claim.Exactly("whole", proxyRequests), claim.Exactly("econ", 0), claim.Exactly("wretr", 0), claim.Exactly("bytes lost", 0)}

// portsRefused is the source for what HAProxy does when it finds no port.
const portsRefused = "HAProxy 2.6: tcp_connect_server, EADDRNOTAVAIL"

// twoCauses is why a rule names no cause: what is expected of a step is one cause of all attempts.
const twoCauses = "half of the connections have found no port (lb-no-port), and the others have waited in vain (lb-gave-up)"

// portsInFlightRules are about responses that are not completed.
func portsInFlightRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyports-in-flight-more", Cells: claim.Cells{{portsEnds: {"stalled"}, portsServers: {"2"}}},
			Want: []claim.Expectation{claim.Exactly("truncated", proxyRequests), claim.Exactly("econ", 0), claim.Exactly("errors", 0), claim.Exactly("unanswered", 0),
				claim.Exactly("backend ports", proxyRequests)},
			Cause: "lb-gave-up",
			Because: "a local port is used up for one destination only, so two servers allow twice as many connections; HAProxy has a separate " +
				"range of its source for each server",
			Source: "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
		},
		{
			Name: "proxyports-in-flight-http", Cells: claim.Cells{{portsEnds: {"stalled"}, portsMode: {"http"}}},
			Want: []claim.Expectation{claim.Exactly("errors", portsHalf), claim.Exactly("truncated", portsHalf), claim.Exactly("econ", portsHalf), claim.Exactly("unanswered", 0),
				claim.Exactly("backend ports", proxyPorts), claim.Is("log", "SC-- sD--", "CD-- SC--")},
			Uncaused: twoCauses,
			Because: "in mode http the ports limit the number of requests in progress: further requests get 503 from HAProxy, whose log blames the " +
				"server (SC)",
			Source: portsRefused + "; configuration manual, Session state at disconnection",
		},
		{
			Name: "proxyports-in-flight-tcp", Cells: claim.Cells{{portsEnds: {"stalled"}}},
			Want: []claim.Expectation{claim.Exactly("unanswered", portsHalf), claim.Exactly("truncated", portsHalf), claim.Exactly("econ", portsHalf), claim.Exactly("errors", 0),
				claim.Exactly("backend ports", proxyPorts), claim.Is("log", "SC sD")},
			Uncaused: twoCauses,
			Because: "in mode tcp HAProxy accepts a connection from the client even if it has no port for it, and then ends it: the client gets a " +
				"FIN or a RST instead of a response",
			Source: portsRefused + "; configuration manual, Session state at disconnection",
		},
	}
}

// portsKeptRules are about connections to servers that HAProxy keeps.
func portsKeptRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyports-http", Cells: claim.Cells{{portsMode: {"http"}}},
			Want: claim.With(portsAll, claim.Exactly("backend TIME_WAIT", 0), claim.Exactly("server TIME_WAIT", 0), claim.AtLeast("balancer Tcp.OutRsts", proxyRequests-2),
				claim.Is("log", "----", "")),
			Because: "in mode http HAProxy ends its connections to servers with a RST, or keeps them for the next client: no port is in TIME_WAIT, " +
				"and a client that keeps its own connection open holds no port",
			Source: "HAProxy 2.6: FD_LINGER_RISK in tcp_connect_server, srv_add_to_idle_list",
		},
		{
			Name: "proxyports-kept-more", Cells: claim.Cells{{portsEnds: {"nobody"}, portsServers: {"2"}}},
			Want: claim.With(portsAll, claim.Exactly("kept", proxyRequests), claim.Exactly("backend TIME_WAIT", 0)),
			Because: "a local port is used up for one destination only, so two servers allow twice as many connections; HAProxy has a separate " +
				"range of its source for each server",
			Source: "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
		},
		{
			Name: "proxyports-kept", Cells: claim.Cells{{portsEnds: {"nobody"}}},
			Want: []claim.Expectation{claim.Exactly("whole", proxyPorts), claim.Exactly("unanswered", portsHalf), claim.Exactly("kept", proxyPorts), claim.Exactly("econ", portsHalf),
				claim.Exactly("backend TIME_WAIT", 0), claim.Is("log", "SC")},
			Cause:   "lb-no-port",
			Because: "in mode tcp each client's connection holds a port towards the server for as long as it lives",
			Source:  portsRefused,
		},
	}
}

// portsSparedRules are about remedies with which no TIME_WAIT is on a port that HAProxy
// needs.
func portsSparedRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "proxyports-server-closes", Cells: claim.Cells{{portsEnds: {"server"}}},
			Want: claim.With(portsAll, claim.Exactly("backend TIME_WAIT", 0), claim.Is("backend ports in server TIME_WAIT", "all"),
				claim.Between("server TIME_WAIT", 1, proxyRequests), claim.Stays(lab.Balancer, "Tcp.OutRsts"), claim.Is("log", "--")),
			Because: "the server closes first and has the TIME_WAITs, so HAProxy's ports are free at once",
			Source:  "RFC 9293 section 3.6; tcp_timewait_state_process",
		},
		{
			Name: "proxyports-nolinger", Cells: claim.Cells{{portsNolinger: {"servers"}}},
			Want: claim.With(portsAll, claim.Exactly("backend TIME_WAIT", 0), claim.AtLeast("balancer Tcp.OutRsts", proxyRequests), claim.AtLeast("server Tcp.EstabResets", portsHalf),
				claim.Is("log", "--")),
			Because: "with option nolinger in the backend HAProxy ends its connections to servers with a RST, so its ports are free at once",
			Source:  "configuration manual, option nolinger; tcp_close",
		},
		{
			Name: "proxyports-more-servers", Cells: claim.Cells{{portsServers: {"2"}}},
			Want: claim.With(portsAll, claim.Is("backend ports in backend TIME_WAIT", "all"), claim.Between("backend ports", 1, proxyRequests), claim.Stays(lab.Balancer, "Tcp.OutRsts"), claim.Is("log", "--")),
			Because: "a local port is used up for one destination only, so two servers allow twice as many connections; HAProxy has a separate " +
				"range of its source for each server",
			Source: "__inet_check_established; HAProxy 2.6: port_range_alloc_port",
		},
	}
}

// portsWaitingRules are about ports in TIME_WAIT, and about their reuse.
func portsWaitingRules() []claim.Rule {
	byClient := claim.Where{portsMode: {"tcp"}, portsEnds: {"client"}}
	noTimestamps := claim.Cells{{portsBalancerTS: {"0"}}, {serverTS: {"0"}}}.And(byClient)
	off := claim.Cells{{portsFrom: {"kernel"}, twReuse: {"2"}}}.And(byClient)
	short := append(noTimestamps.And(claim.Where{}), off...)
	exhausted := func(tries int64) []claim.Expectation {
		return []claim.Expectation{
			claim.Exactly("whole", proxyPorts), claim.Exactly("unanswered", portsHalf), claim.Exactly("econ", portsHalf), claim.Exactly("wretr", portsHalf*(tries-1)), claim.Exactly("no port", 0),
			claim.Exactly("backend TIME_WAIT", proxyPorts), claim.Exactly("backend ports", proxyPorts), claim.Is("log", "-- SC"),
			claim.Stays(lab.Balancer, "TcpExt.TWRecycled"),
		}
	}
	retaken := claim.With(portsAll, claim.AtLeast("balancer TcpExt.TWRecycled", portsHalf), claim.Is("backend ports in backend TIME_WAIT", "all"),
		claim.Between("backend ports", 1, proxyPorts), claim.Is("log", "--"))

	return []claim.Rule{
		{
			Name: "proxyports-retried", Cells: short.And(claim.Where{retries: {"3"}}), Want: exhausted(4),
			Cause:   "lb-no-port",
			Because: "HAProxy retries three times, with a pause in between (timeout connect, at most 1 s), but a TIME_WAIT lasts longer than that",
			Source:  "configuration manual, retries; " + portsRefused,
		},
		{
			Name: "proxyports-no-timestamps", Cells: noTimestamps, Want: exhausted(1),
			Cause: "lb-no-port",
			Because: "a TIME_WAIT of a connection without timestamps is never reused, neither with tcp_tw_reuse=1 nor with HAProxy's own bind with " +
				"SO_REUSEADDR. If timestamps are off on the balancer or on the servers, each connection takes one of the balancer's ports for " +
				"60 s",
			Source: "tcp_twsk_unique: tw_ts_recent_stamp; " + portsRefused,
		},
		{
			Name: "proxyports-source", Cells: claim.Cells{{portsFrom: {"source"}}}, Want: retaken,
			Because: "HAProxy binds the ports of its source range with SO_REUSEADDR, and connect then takes over their TIME_WAITs, whatever " +
				"tcp_tw_reuse says",
			Source: "configuration manual, source; HAProxy 2.6: tcp_bind_socket; tcp_twsk_unique: twp is NULL",
		},
		{
			Name: "proxyports-reused", Cells: claim.Cells{{twReuse: {"1"}}}, Want: retaken,
			Because: "with tcp_tw_reuse=1 on the balancer, connect takes over its TIME_WAITs towards the servers when they are old enough",
			Source:  "tcp_twsk_unique",
		},
		{
			Name: "proxyports-exhausted", Cells: claim.Cells{{}}, Want: exhausted(1),
			Cause: "lb-no-port",
			Because: "in mode tcp a client that closes first makes HAProxy close first towards the server, and each connection takes a port for 60 " +
				"s. Without a free port the client's connect still succeeds, but the connection ends without a response",
			Source: "__inet_hash_connect; " + portsRefused + "; configuration manual, Session state at disconnection",
		},
	}
}
