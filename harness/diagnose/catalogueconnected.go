package diagnose

// waitsInVain are the causes by which a connection gets no answer any more.
func waitsInVain() []Cause {
	return []Cause{
		{
			ID:         "keepalive-expired",
			Why:        "The connection was idle, and none of the keep-alive probes got an answer, so the kernel ended it.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{failedBy("ETIMEDOUT"), probed, onlyProbes},
			LookAlikes: []LookAlike{{"unacknowledged", not(neverAcknowledged)}},
			Do:         "Look where the probes ended: the peer is gone, or the way to it.",
			Cost:       "None.",
			Look:       "tcpdump: empty segments at the interval of TCP_KEEPINTVL, without an answer; `nstat TcpExtTCPKeepAlive` rises; read gives ETIMEDOUT.",
			Source:     "tcp_keepalive_timer",
		},
		{
			ID:          "unacknowledged",
			Why:         "Nobody acknowledges the last data. The kernel repeats it until tcp_retries2 (about 15 minutes) or TCP_USER_TIMEOUT ends the connection, and no keep-alive probe is sent meanwhile.",
			Symptoms:    []Symptom{Broken, Stalled},
			Requires:    []Condition{neverAcknowledged, repeats},
			Contradicts: []Condition{failedBy("ECONNRESET", "EPIPE", "ECONNREFUSED"), anyTooBig, forgotten, all(invalid, oneWay), unread},
			Also:        []Condition{lastRuled},
			LookAlikes:  []LookAlike{{"mtu-black-hole", not(anyTooBig)}, {"peer-stalled", not(unread)}},
			Do:          "Look where the segments ended: the peer is gone, or a node on the way drops them. TCP_USER_TIMEOUT ends the wait earlier.",
			Cost:        "A short TCP_USER_TIMEOUT ends connections over a link that fails for a moment.",
			Look:        "`ss -tanoi`: Send-Q, timer \"on\" and a growing backoff; tcpdump: the same segment again and again; `nstat TcpRetransSegs` rises.",
			Source:      "tcp_retransmit_timer, tcp_write_timeout",
		},
		{
			ID:         "peer-stalled",
			Why:        "The peer's kernel has the data and has acknowledged it, and its process does not read it; when its buffer is full, its window is 0, and nothing more is sent.",
			Symptoms:   []Symptom{Stalled},
			Requires:   []Condition{acknowledged, unread},
			LookAlikes: []LookAlike{{"unacknowledged", acknowledged}},
			Do:         "Look what the peer's process waits for.",
			Cost:       "None.",
			Look:       "`ss -tan` at the peer: Recv-Q of the connection is not 0 and does not fall; at the sender Send-Q, and the timer \"persist\" when the window is 0.",
			Source:     "tcp_select_window, tcp_probe_timer",
		},
		{
			ID:          "peer-silent",
			Why:         "The connection is whole and nothing is under way: the peer's process has read all and sends nothing.",
			Symptoms:    []Symptom{Stalled},
			Requires:    []Condition{peerIdle, allAcknowledged},
			Contradicts: []Condition{forgotten, all(invalid, oneWay)},
			LookAlikes:  []LookAlike{{"peer-stalled", not(unread)}, {"unacknowledged", not(neverAcknowledged)}},
			Do:          "Look what the peer's process waits for; a deadline in the program that reads.",
			Cost:        "None.",
			Look:        "`ss -tan` at both ends: ESTABLISHED, Recv-Q and Send-Q are 0; tcpdump sees nothing, or keep-alive probes and their answers.",
			Source:      "tcp_recvmsg",
		},
	}
}

// closedTooEarly are the causes by which a process that closes its socket breaks a connection.
func closedTooEarly() []Cause {
	const onData, onClose = "TcpExt.TCPAbortOnData", "TcpExt.TCPAbortOnClose"
	return []Cause{
		{
			ID:          "closed-unread",
			Why:         "The peer closed its socket with data unread, so its kernel sent a RST instead of a FIN (RFC 2525, section 2.17).",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{wasReset, resetCounted(onClose)},
			Contradicts: []Condition{failedBehind},
			LookAlikes:  []LookAlike{{"closed-idle", not(finBeforeRequest)}},
			Do:          "Let the server read to the end before it closes; let the client read what has come before it gives up.",
			Cost:        "Reading what nobody wants.",
			Look:        "`nstat TcpExtTCPAbortOnClose` rises at the node that sent the RST; `ss` there showed a Recv-Q before.",
			Source:      "tcp_close",
		},
		{
			ID:          "closed-idle",
			Why:         "The peer had closed the idle connection before the request came, and the kernel answered the request by a RST.",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{wasReset, either(finBeforeRequest, peerHadClosed), resetCounted("Tcp.OutRsts")},
			Contradicts: []Condition{failedBehind},
			LookAlikes:  []LookAlike{{"closed-unread", not(resetCounted(onClose))}},
			Do:          "Repeat requests that may be repeated; an idle timeout of the client below that of the peer; option idle-close-on-response where a reload is the reason.",
			Cost:        "With that option the old process lives until its connections end.",
			Look:        "tcpdump: the peer's FIN, then the request, then a RST; `nstat TcpOutRsts` rises at the peer.",
			Source:      "tcp_rcv_state_process, tcp_timewait_state_process",
		},
		{
			ID:          "linger-reset",
			Why:         "The peer's process ended the connection by a RST on purpose (SO_LINGER with a time of 0).",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{onItsOwn, resetCounted(onData)},
			Contradicts: []Condition{finFirst},
			LookAlikes:  []LookAlike{{"closed-unread", not(resetCounted(onClose))}},
			Do:          "Leave SO_LINGER alone in the peer's program (HAProxy: option nolinger).",
			Cost:        "The side that closes first keeps a TIME_WAIT.",
			Look:        "`nstat TcpExtTCPAbortOnData` rises at the node that sent the RST, and TcpExtTCPAbortOnClose does not; in tcpdump the RST has an ACK, and no FIN was before it.",
			Source:      "__tcp_close, tcp_disconnect",
		},
		{
			ID:          "cut-short",
			Why:         "The server's process closed the connection before its answer was whole: a FIN came where the client still waited for data.",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{noAnswer, endedByServer},
			Contradicts: []Condition{failedBehind, finBeforeRequest},
			LookAlikes:  []LookAlike{{"fin-made-of-reset", serversSentNoReset}, {"lb-gave-up", endedByServer}, {"closed-idle", answeredByNoReset}},
			Do:          "Look why the server's process ended; let the client compare what came with Content-Length, and repeat requests that may be repeated.",
			Cost:        "None.",
			Look:        "tcpdump at the server: its FIN before the last byte that it had announced, and no RST before it; HAProxy's termination state is SD, of answers that it does not measure --.",
			Source:      "tcp_close; RFC 9112, section 8",
		},
		{
			ID:         "client-gave-up",
			Why:        "The client's own process ended the connection before the answer was whole: it had waited as long as it wanted to.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{gaveUp, endedByClient, allAcknowledged},
			LookAlikes: []LookAlike{{"cut-short", endedByClient}},
			Do:         "Look what the server waits for; a longer deadline of the client where answers may take that long.",
			Cost:       "None.",
			Look:       "tcpdump: the first FIN or RST is the client's, after a silence; HAProxy's termination state is CD or CH, its statistics count cli_abrt.",
			Source:     "tcp_close",
		},
		{
			ID:         "listener-closed",
			Why:        "The listener closed while the connection still waited to be accepted, so the kernel ended it by a RST; the client had been connected all along.",
			Symptoms:   []Symptom{Broken},
			Requires:   []Condition{onItsOwn, waitedToBeAccepted, quiet(onData, onClose)},
			LookAlikes: []LookAlike{{"linger-reset", not(resetCounted(onData))}},
			Do:         "Pass the listening socket on when a program is replaced; with SO_REUSEPORT net.ipv4.tcp_migrate_req=1 (Linux 5.14).",
			Cost:       "None.",
			Look:       "`ss -tln` showed a Recv-Q before; a RST with an ACK at the moment when the listener closed, and TcpExtTCPAbortOnData and TcpExtTCPAbortOnClose stand still.",
			Source:     "inet_csk_listen_stop",
		},
	}
}

// unknownThere are the causes by which a RST comes from where nobody has closed anything.
func unknownThere() []Cause {
	const onData, onClose = "TcpExt.TCPAbortOnData", "TcpExt.TCPAbortOnClose"
	return []Cause{
		{
			ID:          "server-restarted",
			Why:         "The server had the connection and does not know it any more, as after a restart or a loss of power, so its kernel answered the data by a RST.",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{failedBy("ECONNRESET", "EPIPE"), resetByPeer, isAnswer, peerHad, quiet(onData, onClose)},
			Contradicts: []Condition{peerHas, finFirst, finBeforeRequest, elsewhere(true)},
			LookAlikes:  []LookAlike{{"closed-idle", not(finFirst)}, {"forgotten-client-speaks", not(elsewhere(true))}},
			Do:          "Nothing at the network: the client has to connect again, and may repeat what may be repeated.",
			Cost:        "None.",
			Look:        "tcpdump at the server: data of a connection without its SYN, and a RST without an ACK; `ss -tan` there does not have the connection; its boot time is later than the connection.",
			Source:      "tcp_v4_rcv, no_tcp_socket; tcp_v4_send_reset",
		},
		{
			ID:          "accept-queue-ghost",
			Why:         "The handshake ended by SYN cookie while the accept queue was full, so the client is connected and the server knows nothing of it: it answered later data by a RST.",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{wasReset, resetCounted("TcpExt.SyncookiesFailed")},
			Contradicts: []Condition{finFirst, peerHad},
			Do:          "Accept faster, or a longer backlog and somaxconn.",
			Cost:        "A longer queue makes clients wait instead.",
			Look:        "`nstat TcpExtListenOverflows TcpExtSyncookiesRecv TcpExtSyncookiesFailed` (the last alone says nothing when the machine was started 5 to 7 minutes ago: then it counts every stray ACK); the client's `ss` shows ESTABLISHED, the server's nothing.",
			Source:      "cookie_v4_check, tcp_get_cookie_sock",
		},
		{
			ID:          "rejected-open",
			Why:         "A rule answered a packet of the open connection by a RST (REJECT with tcp-reset): neither end has ended it.",
			Symptoms:    []Symptom{Broken},
			Requires:    []Condition{wasReset, rejectedThere, quietResets},
			Contradicts: []Condition{forgotten},
			Do:          "Change that rule, or let it apply to new connections only (-m conntrack --ctstate NEW).",
			Cost:        "What the rule was there for.",
			Look:        "A RST, and `nstat TcpOutRsts` stands still at the node that sent it; the REJECT rule's packets rise; the other end still has the connection.",
			Source:      "nf_send_reset",
		},
	}
}
