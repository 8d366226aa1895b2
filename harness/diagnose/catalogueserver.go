package diagnose

// atTheServer are the causes by which SYNs that reached the server do not connect.
func atTheServer() []Cause {
	const overflows = "TcpExt.ListenOverflows"
	return []Cause{
		{
			ID:         "no-listener",
			Why:        "Nobody listens on the port, so the server's kernel answered by a RST.",
			Symptoms:   []Symptom{Failed},
			Requires:   []Condition{outcome("Refused"), reachedServer, not(listens), wasReset, resetByServer},
			LookAlikes: []LookAlike{{"rejected", counted("Tcp.OutRsts")}},
			Do:         "Start the service, or look at the address that it listens at.",
			Cost:       "None.",
			Look:       "`ss -tln` shows nobody on that port; `nstat TcpOutRsts` rises by the SYNs.",
			Source:     "tcp_v4_rcv, no_tcp_socket",
		},
		{
			ID:         "accept-queue-full",
			Why:        "The listener's accept queue is full: its process does not accept fast enough, and the kernel dropped the SYNs without an answer.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{reachedServer, noAnswerFor, counted(overflows)},
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
			Requires:   []Condition{reachedServer, noAnswerFor, counted("TcpExt.TCPReqQFullDrop")},
			LookAlikes: []LookAlike{{"accept-queue-full", still(overflows)}, {"filtered", unruled("-j DROP")}},
			Do:         "net.ipv4.tcp_syncookies=1; a longer backlog.",
			Cost:       "A connection by cookie knows fewer TCP options.",
			Look:       "`nstat TcpExtTCPReqQFullDrop` rises by the SYNs; `ss -tan state syn-recv` is as long as the backlog.",
			Source:     "tcp_conn_request",
		},
	}
}

// ofEarlierConnection are the causes by which the server takes a SYN for a segment of another
// connection of the same five-tuple.
func ofEarlierConnection() []Cause {
	const challenges = "TcpExt.TCPSYNChallenge"
	living := had("ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "CLOSING")
	return []Cause{
		{
			ID:         "time-wait-older-timestamp",
			Why:        "The server has a TIME_WAIT of the same five-tuple whose last timestamp is newer than the SYN's, so it answered as to a stray segment of that connection (PAWS).",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{reachedServer, bareACK, had("TIME_WAIT"), older},
			LookAlikes: []LookAlike{{"time-wait-older-number", older}, {"half-open", had("TIME_WAIT")}, {"five-tuple-collision", had("TIME_WAIT")}},
			Do:         "Mostly nothing: the client's RST ends the TIME_WAIT, and the next SYN connects some 10 ms later (a second with a client before Linux 5.6). If it does not: let that RST pass, tcp_rfc1337=0 at the server; clients behind one address need ports of their own.",
			Cost:       "tcp_rfc1337=0 is the default.",
			Look:       "`ss -tan state time-wait` shows the five-tuple before the SYN; `nstat TcpExtPAWSTimewait` (before 6.16 TcpExtPAWSEstab) rises; the answer is an ACK and no SYN-ACK.",
			Source:     "tcp_timewait_state_process",
		},
		{
			ID:         "time-wait-older-number",
			Why:        "The server has a TIME_WAIT of the same five-tuple that expects a higher sequence number than the SYN's, so it answered as to a stray segment of that connection. No counter tells.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{reachedServer, bareACK, had("TIME_WAIT"), not(older)},
			LookAlikes: []LookAlike{{"time-wait-older-timestamp", not(older)}, {"half-open", had("TIME_WAIT")}, {"five-tuple-collision", had("TIME_WAIT")}},
			Do:         "Timestamps on both sides: then the clock decides, and not the number. If the client's RST does not end the TIME_WAIT: let it pass, tcp_rfc1337=0 at the server.",
			Cost:       "12 bytes a segment.",
			Look:       "`ss -tan state time-wait` shows the five-tuple before the SYN; the answer is an ACK and no SYN-ACK, and no counter of PAWS moves.",
			Source:     "tcp_timewait_state_process",
		},
		{
			ID:         "half-open",
			Why:        "The server still has the connection that an earlier client at this address and port had. It answered the SYN by a challenge ACK (RFC 5961, section 4), which only a RST can end.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{reachedServer, bareACK, living, counted(challenges), came},
			LookAlikes: []LookAlike{{"time-wait-older-number", living}, {"five-tuple-collision", came}},
			Do:         "Keep-alive at the server finds such connections; let the client's RST pass; a client that restarts needs another port or number.",
			Cost:       "Keep-alive: a packet per connection and interval.",
			Look:       "`ss -tan state established` at the server shows the five-tuple before the SYN; `nstat TcpExtTCPSYNChallenge` rises by the SYNs.",
			Source:     "tcp_validate_incoming",
		},
		{
			ID:         "five-tuple-collision",
			Why:        "The server has a live connection with the same five-tuple, which came another way. It answered the SYN by challenge ACKs to that connection, so this client never hears of them.",
			Symptoms:   []Symptom{Failed},
			Requires:   []Condition{reachedServer, bareACK, living, counted(challenges), not(came), not(clientReset)},
			LookAlikes: []LookAlike{{"time-wait-older-number", living}, {"half-open", not(came)}},
			Do:         "SNAT at the balancers, or a port of its own at the server for each balancer.",
			Cost:       "With SNAT the server does not see the client's address.",
			Look:       "As for half-open, but the challenge ACKs leave by another way: tcpdump at the client sees them come from another address, or not at all.",
			Source:     "tcp_validate_incoming",
		},
	}
}

// afterConnected are the causes by which a connection that came about dies.
func afterConnected() []Cause {
	return []Cause{
		{
			ID:         "closed-unread",
			Why:        "The peer closed its socket with data unread, so its kernel sent a RST instead of a FIN (RFC 2525, section 2.17).",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{wasReset, resetCounted("TcpExt.TCPAbortOnClose")},
			LookAlikes: []LookAlike{{"closed-idle", not(finBeforeRequest)}},
			Do:         "Let the server read to the end before it closes; let the client read what has come before it gives up.",
			Cost:       "Reading what nobody wants.",
			Look:       "`nstat TcpExtTCPAbortOnClose` rises at the node that sent the RST; `ss` there showed a Recv-Q before.",
			Source:     "tcp_close",
		},
		{
			ID:         "closed-idle",
			Why:        "The peer had closed the idle connection before the request came, and the kernel answered the request by a RST.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{wasReset, finBeforeRequest, resetCounted("Tcp.OutRsts")},
			LookAlikes: []LookAlike{{"closed-unread", not(resetCounted("TcpExt.TCPAbortOnClose"))}},
			Do:         "Repeat requests that may be repeated; an idle timeout of the client below that of the peer; option idle-close-on-response where a reload is the reason.",
			Cost:       "With that option the old process lives until its connections end.",
			Look:       "tcpdump: the peer's FIN, then the request, then a RST; `nstat TcpOutRsts` rises at the peer.",
			Source:     "tcp_rcv_state_process, tcp_timewait_state_process",
		},
		{
			ID:       "accept-queue-ghost",
			Why:      "The handshake ended by SYN cookie while the accept queue was full, so the client is connected and the server knows nothing of it: it answered later data by a RST.",
			Symptoms: []Symptom{Broken},
			Requires: []Condition{wasReset, resetCounted("TcpExt.SyncookiesFailed")},
			Do:       "Accept faster, or a longer backlog and somaxconn.",
			Cost:     "A longer queue makes clients wait instead.",
			Look:     "`nstat TcpExtListenOverflows TcpExtSyncookiesRecv TcpExtSyncookiesFailed`; the client's `ss` shows ESTABLISHED, the server's nothing.",
			Source:   "cookie_v4_check, tcp_get_cookie_sock",
		},
	}
}
