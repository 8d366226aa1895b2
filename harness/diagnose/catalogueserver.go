package diagnose

// atTheServer are the causes by which SYNs that reached the server do not connect.
func atTheServer() []Cause {
	const overflows = "TcpExt.ListenOverflows"
	return []Cause{
		{
			ID:          "no-listener",
			Why:         "Nobody listens on the port, so the server's kernel answered by a RST.",
			Symptoms:    []Symptom{Failed},
			Where:       []Condition{reachedServer},
			Requires:    []Condition{outcome("Refused"), not(listens), resetByServer},
			Contradicts: []Condition{misled},
			LookAlikes:  []LookAlike{{"rejected", counted("Tcp.OutRsts")}},
			Do:          "Start the service, or look at the address that it listens at.",
			Cost:        "None.",
			Look:        "`ss -tln` shows nobody on that port; `nstat TcpOutRsts` rises by the SYNs.",
			Source:      "tcp_v4_rcv, no_tcp_socket",
		},
		{
			ID:         "accept-queue-full",
			Why:        "The listener's accept queue is full: its process does not accept fast enough, and the kernel dropped the SYNs without an answer.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{reachedServer, noAnswerFor},
			Requires:   []Condition{counted(overflows)},
			LookAlikes: []LookAlike{{"filtered", unruled("-j DROP")}},
			Do:         "Look why the process does not accept (stopped? out of descriptors?); a longer backlog, and net.core.somaxconn with it.",
			Cost:       "A longer queue makes clients wait instead.",
			Look:       "`ss -tln`: Recv-Q above Send-Q; `nstat TcpExtListenOverflows` rises by the SYNs.",
			Source:     "tcp_conn_request, sk_acceptq_is_full",
		},
		{
			ID:         "syn-queue-full",
			Why:        "The listener has as many half-open connections as it may have, and SYN cookies are off: the kernel dropped the SYNs without an answer.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{reachedServer, noAnswerFor},
			Requires:   []Condition{counted("TcpExt.TCPReqQFullDrop")},
			LookAlikes: []LookAlike{{"accept-queue-full", still(overflows)}, {"filtered", unruled("-j DROP")}},
			Do:         "net.ipv4.tcp_syncookies=1; a longer backlog.",
			Cost:       "A connection by cookie knows fewer TCP options.",
			Look:       "`nstat TcpExtTCPReqQFullDrop` rises by the SYNs; `ss -tan state syn-recv` is as long as the backlog.",
			Source:     "tcp_conn_request",
		},
		{
			ID:         "no-return-route",
			Why:        "The server has no route to the source of the SYNs, so its kernel dropped them without an answer.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{reachedServer, noAnswerFor},
			Requires:   []Condition{countedByVersion("Ip.OutNoRoutes", "Ip6.OutNoRoutes")},
			LookAlikes: []LookAlike{{"accept-queue-full", still(overflows)}, {"reverse-path", still("TcpExt.IPReversePathFilter")}},
			Do:         "A route at the server.",
			Cost:       "None.",
			Look:       "`ip route get CLIENT` at the server says unreachable; `nstat IpOutNoRoutes` rises by the SYNs, and TcpExtListenOverflows stands still.",
			Source:     "tcp_v4_route_req, inet_csk_route_req",
		},
	}
}

// challenges counts the SYNs that the server has answered by a challenge ACK.
const challenges = "TcpExt.TCPSYNChallenge"

// living says that the server had a connection of the five-tuple that was not over.
func living(c *Case) Fact {
	return had("ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "CLOSING")(c)
}

// ofEarlierConnection are the causes by which the server takes a SYN for a segment of another
// connection of the same five-tuple.
func ofEarlierConnection() []Cause {
	return []Cause{
		{
			ID:          "time-wait-older-timestamp",
			Why:         "The server has a TIME_WAIT of the same five-tuple whose last timestamp is newer than the SYN's, so it answered as to a stray segment of that connection (PAWS).",
			Symptoms:    []Symptom{Failed, Late},
			Where:       []Condition{reachedServer},
			Requires:    []Condition{bareACK, had("TIME_WAIT"), older},
			Contradicts: []Condition{all(unassassinated, clientResetCounted)},
			LookAlikes:  []LookAlike{{"time-wait-older-number", older}, {"half-open", had("TIME_WAIT")}, {"five-tuple-collision", had("TIME_WAIT")}},
			Do:          "Mostly nothing: the client's RST ends the TIME_WAIT, and the next SYN connects some 10 ms later (a second with a client before Linux 5.6). If it does not: let that RST pass, tcp_rfc1337=0 at the server; clients behind one address need ports of their own.",
			Cost:        "tcp_rfc1337=0 is the default.",
			Look:        "`ss -tan state time-wait` shows the five-tuple before the SYN; `nstat TcpExtPAWSTimewait` (before 6.16 TcpExtPAWSEstab) rises; the answer is an ACK and no SYN-ACK.",
			Source:      "tcp_timewait_state_process",
		},
		{
			ID:          "time-wait-older-number",
			Why:         "The server has a TIME_WAIT of the same five-tuple that expects a higher sequence number than the SYN's, so it answered as to a stray segment of that connection. No counter tells.",
			Symptoms:    []Symptom{Failed, Late},
			Where:       []Condition{reachedServer},
			Requires:    []Condition{bareACK, had("TIME_WAIT"), not(older)},
			Contradicts: []Condition{all(unassassinated, clientResetCounted)},
			LookAlikes:  []LookAlike{{"time-wait-older-timestamp", not(older)}, {"half-open", had("TIME_WAIT")}, {"five-tuple-collision", had("TIME_WAIT")}},
			Do:          "Timestamps on both sides: then the clock decides, and not the number. If the client's RST does not end the TIME_WAIT: let it pass, tcp_rfc1337=0 at the server.",
			Cost:        "12 bytes a segment.",
			Look:        "`ss -tan state time-wait` shows the five-tuple before the SYN; the answer is an ACK and no SYN-ACK, and no counter of PAWS moves.",
			Source:      "tcp_timewait_state_process",
		},
		{
			ID:         "half-open",
			Why:        "The server still has the connection that an earlier client at this address and port had. It answered the SYN by a challenge ACK (RFC 5961, section 4), which only a RST can end.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{reachedServer},
			Requires:   []Condition{living, counted(challenges, "TcpExt.PAWSEstab"), either(came, acksRuled)},
			Also:       []Condition{skipped},
			LookAlikes: []LookAlike{{"time-wait-older-number", living}, {"five-tuple-collision", either(came, acksRuled)}},
			Do:         "Keep-alive at the server finds such connections; let the client's RST pass; a client that restarts needs another port or number.",
			Cost:       "Keep-alive: a packet per connection and interval.",
			Look:       "`ss -tan state established` at the server shows the five-tuple before the SYN; `nstat TcpExtTCPSYNChallenge` rises by the SYNs (before Linux 6.4 TcpExtPAWSEstab by those whose timestamp is older).",
			Source:     "tcp_validate_incoming",
		},
		{
			ID:          "five-tuple-collision",
			Why:         "The server has a live connection with the same five-tuple, which came another way. It answered the SYN by challenge ACKs to that connection, so this client never hears of them.",
			Symptoms:    []Symptom{Failed},
			Where:       []Condition{reachedServer},
			Requires:    []Condition{bareACK, living, counted(challenges), not(came), not(clientReset)},
			Contradicts: []Condition{acksEnded},
			LookAlikes:  []LookAlike{{"time-wait-older-number", living}, {"half-open", not(came)}},
			Do:          "SNAT at the balancers, or a port of its own at the server for each balancer.",
			Cost:        "With SNAT the server does not see the client's address.",
			Look:        "As for half-open, but the challenge ACKs leave by another way: tcpdump at the client sees them come from another address, or not at all.",
			Source:      "tcp_validate_incoming",
		},
	}
}

// ofClosedConnection are those of them by which the earlier connection is over, or as good as over.
func ofClosedConnection() []Cause {
	return []Cause{
		{
			ID:         "fin-wait-2",
			Why:        "The server has closed an earlier connection of this five-tuple, and its client has not (FIN_WAIT2). It took the SYN for one of its segments, and sent an ACK, or a RST if it still expects the SYN's number.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{reachedServer},
			Requires:   []Condition{had("FIN_WAIT2"), either(bareACK, resetByServer), still(challenges)},
			LookAlikes: []LookAlike{{"half-open", still(challenges)}, {"time-wait-older-number", had("FIN_WAIT2")}},
			Do:         "Mostly nothing: a RST ends the FIN_WAIT2, the client's or the server's own, and the next SYN connects. If it does not: let the client's RST pass; let clients close connections that the server has closed; a shorter net.ipv4.tcp_fin_timeout at the server.",
			Cost:       "A short tcp_fin_timeout cuts off clients that still send after the server's FIN.",
			Look:       "`ss -tan state fin-wait-2` at the server shows the five-tuple before the SYN; the answer is an ACK or a RST, and `nstat TcpExtTCPSYNChallenge` stands still.",
			Source:     "tcp_timewait_state_process, TCP_FIN_WAIT2",
		},
		{
			ID:       "tw-unassassinated",
			Why:      "The server's TIME_WAIT of the same five-tuple answered the SYNs. The client's RST should have ended it and did not: tcp_rfc1337=1, or the RST ended on the way.",
			Symptoms: []Symptom{Failed},
			Where:    []Condition{reachedServer},
			Requires: []Condition{bareACK, unassassinated, clientReset},
			Do:       "net.ipv4.tcp_rfc1337=0 at the server; let the client's RST pass.",
			Cost:     "None: 0 is the default.",
			Look:     "`ss -tan state time-wait` at the server shows the five-tuple before the SYN and after the client's RST; the answer is an ACK and no SYN-ACK.",
			Source:   "tcp_timewait_state_process",
		},
		{
			ID:       "ack-rate-limited",
			Why:      "The server has the same five-tuple, live or in TIME_WAIT, and had just sent an ACK for it: at most one in half a second. So these SYNs got no answer.",
			Symptoms: []Symptom{Failed, Late},
			Where:    []Condition{reachedServer, noAnswerFor},
			Requires: []Condition{either(living, had("TIME_WAIT")), counted("TcpExt.TCPACKSkippedChallenge", "TcpExt.TCPACKSkippedTimeWait")},
			Do:       "Wait half a second, or connect from another port.",
			Cost:     "None.",
			Look:     "`nstat TcpExtTCPACKSkippedChallenge TcpExtTCPACKSkippedTimeWait` rises by the SYNs that got no ACK; `ss -tan` at the server shows the five-tuple before them.",
			Source:   "tcp_oow_rate_limited, tcp_send_challenge_ack, tcp_timewait_check_oow_rate_limit",
		},
	}
}
