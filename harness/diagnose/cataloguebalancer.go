package diagnose

// atTheBalancer are the causes that lie behind a program that balances: the client's connection
// ends at it, and another one begins.
func atTheBalancer() []Cause {
	return []Cause{
		{
			ID:       "fin-made-of-reset",
			Why:      "The server reset its connection, and the balancer ended the client's by a FIN, or in mode http answered by a status of its own: the client sees an ordinary end where an error was.",
			Symptoms: []Symptom{Broken},
			Requires: []Condition{noAnswer, ownEnd, resetBehind, behindCounted("Tcp.EstabResets")},
			Also:     []Condition{logged},
			Do:       "Let the client compare what came with Content-Length; look at the server for the RST.",
			Cost:     "None.",
			Look:     "tcpdump at the balancer: a RST of the server, then a FIN to the client; HAProxy's termination state is SD or SH; `nstat TcpEstabResets` rises at the balancer.",
			Source:   "tcp_reset",
		},
		{
			ID:       "lb-server-closed",
			Why:      "The server closed its connection to the balancer before it had answered the request, so the balancer had no answer for the client: it answered by 502, or closed.",
			Symptoms: []Symptom{Broken},
			Requires: []Condition{noAnswer, closedBehind, logged},
			Do:       "Look at the server's log for why it closed. If it closes idle connections: its idle timeout above that of the balancer (HAProxy: timeout http-keep-alive, http-reuse).",
			Cost:     "Idle connections stay open longer at the server.",
			Look:     "tcpdump at the balancer: the request to the server, then a FIN of the server and no data before it; HAProxy's termination state is SH, its status 502.",
			Source:   "tcp_fin; HAProxy's configuration manual, section 8.5",
		},
		{
			ID:         "lb-backend-down",
			Why:        "The balancer took the connection and got none to its server, so it ended it, or answered by a status of its own.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{noAnswer, calledInVain, behindCounted("Tcp.AttemptFails")},
			LookAlikes: []LookAlike{{"lb-no-port", calledInVain}},
			Do:         "Look why the server does not answer: no listener, a full queue, a rule on the way. Health checks take it out.",
			Cost:       "None.",
			Look:       "tcpdump at the balancer: SYNs to the server, answered by RSTs or not at all; HAProxy's termination state is SC or sC, its statistics count econ; `nstat TcpAttemptFails` rises there.",
			Source:     "tcp_rcv_synsent_state_process",
		},
		{
			ID:          "lb-gave-up",
			Why:         "The balancer ended the client's connection before the answer was whole, although neither the client nor the server had ended theirs: it had waited for the server as long as it may (HAProxy: timeout server).",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{noAnswer, endedByBalancer, serversClosedNothing},
			Contradicts: []Condition{finBeforeRequest},
			LookAlikes:  []LookAlike{{"cut-short", serversClosedNothing}, {"fin-made-of-reset", serversSentNoReset}, {"closed-idle", answeredByNoReset}},
			Do:          "Look what the server waits for; a longer timeout of the balancer where answers may take that long.",
			Cost:        "With a longer timeout a server that hangs holds connections, and ports, for longer.",
			Look:        "tcpdump at the balancer: the server is silent, and then the balancer sends FINs or RSTs to both sides; HAProxy's termination state is sD or sH (of a part of the answer since 3.0 also CD).",
			Source:      "HAProxy: configuration manual, timeout server",
		},
		{
			ID:         "lb-no-port",
			Why:        "The balancer had no free port to the server, in its kernel's range or in the one that it is told to use, so it could not connect (EADDRNOTAVAIL) and nothing was sent to the server.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{noAnswer, calledNobody, either(balancerFull, balancerWasFull)},
			LookAlikes: []LookAlike{{"lb-backend-down", calledNobody}},
			Do:         "Keep connections to the servers and use them again (http-reuse); more source addresses (HAProxy: source) or server ports; net.ipv4.tcp_tw_reuse=1 at the balancer.",
			Cost:       "Each is local to the balancer.",
			Look:       "`ss -tan dst SERVER:PORT | wc -l` at the balancer against net.ipv4.ip_local_port_range; HAProxy's termination state is SC, and tcpdump sees no SYN to the server.",
			Source:     "__inet_hash_connect",
		},
	}
}
