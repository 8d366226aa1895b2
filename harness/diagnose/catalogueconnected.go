package diagnose

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
			Why:        "The peer had closed the idle connection when the request came: they crossed, and the kernel answered the request by a RST.",
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
