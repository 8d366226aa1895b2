package document

func remedyClaims() []Claim {
	return []Claim{
		{
			Chinese: "HTTP 使用短连接（Connection: close），这时由负载均衡 HaProxy 主动关闭连接，客户端不会产生 timewait。",
			English: "Use short HTTP connections (Connection: close): the balancer closes first and the client has no TIME_WAIT.",
			Mark:    Right,
			Short:   "True: the balancer has the TIME_WAITs instead, and the client's port is free at once.",
			Shown:   Shown{Rule: "remedies-balancer-closes", Evidence: []string{"connected", "client TIME_WAIT", "balancer TIME_WAIT"}},
			Symptom: "no-port",
			Truth: "True, but the side that closes instead has them. HAProxy in mode http has them towards the client only; it keeps its " +
				"connection to the server, or ends it with a RST. In mode tcp the server obeys the header and closes: the server and HAProxy " +
				"have one each. Behind DNAT only the server has them. option httpclose and timeout http-keep-alive have the same effect " +
				"without the client's help. The client's port is free at once. When the same client comes back from that port, its newer " +
				"timestamp or sequence number is accepted; when another client comes from the same address and port, everything said above " +
				"about five-tuples applies.",
			Since: "all; HAProxy as of 2.6",
			Rules: []string{
				"remedies-balancer-closes", "exhaustion-balancer-newer-timestamp", "exhaustion-balancer-newer-number",
				"proxy-http-request", "proxy-http-request-shared", "proxy-http-httpclose", "proxy-http-httpclose-late", "proxy-http-httpclose-first", "proxy-http-idle", "proxy-http-idle-shared",
				"proxy-tcp-server", "proxy-tcp-idle", "proxy-dnat-server", "proxy-endpoint-server",
			},
		},
		{
			Chinese: "如果场景需要使用长连接，可以打开 socket 的 SO_LINGER 选项，使用 rst 关闭连接，避免进入 timewait 状态，达到快速回收端口的目的。",
			English: "With long connections, set SO_LINGER and close by RST, which avoids TIME_WAIT and frees the port quickly.",
			Mark:    Imprecise,
			Short:   "True on both sides, but what has not been sent yet is lost, and the reader gets ECONNRESET.",
			Shown:   Shown{Rule: "remedies-linger-loses-data", Evidence: []string{"client TIME_WAIT", "bytes lost", "readers reset"}},
			Symptom: "reset",
			Truth: "It does, on both sides and at once. But data that has not been sent when close is called is discarded, and the reader gets " +
				"ECONNRESET, so first read until the peer's end of data. HAProxy in mode tcp passes the RST on to the server; in mode http it " +
				"does not watch the client while it waits for the server. HAProxy's own option nolinger in the frontend has the same effect, " +
				"even on a client that closes first, and the same danger: a client whose window is too small for the response gets only a " +
				"part of it, fewer bytes than Content-Length announced, while HAProxy's log shows no error.",
			Since: "all; HAProxy as of 2.6",
			Rules: []string{
				"remedies-linger", "remedies-linger-loses-data", "exhaustion-reset",
				"proxy-tcp-reset", "proxy-http-reset", "proxy-dnat-reset", "proxy-endpoint-reset",
				"proxy-http-nolinger-*", "proxy-tcp-client-nolinger-*", "proxy-tcp-idle-nolinger-*", "proxyloss-nolinger", "proxyloss-none", "proxyloss-cut-nolinger*", "proxyloss-client-*",
			},
		},
	}
}

// omittedProxyClaims are about HAProxy, where the document says nothing.
func omittedProxyClaims() []Claim {
	return []Claim{
		{
			English: "Who has the TIME_WAITs when the client closes first and HAProxy is in between?",
			Mark:    Question,
			Short:   "The client; HAProxy in mode tcp has as many again, towards the server.",
			Shown:   Shown{Rule: "proxy-tcp-client", Evidence: []string{"client TIME_WAIT", "frontend TIME_WAIT", "backend TIME_WAIT"}},
			Symptom: "no-port",
			Truth: "Always the client. In mode tcp HAProxy has as many again, towards the server: it passes the FIN on, and so closes first " +
				"there. In mode http HAProxy has none: when the client has closed, HAProxy keeps its connection to the server or ends it with " +
				"a RST (the server sees a reset connection and loses no data). Connection: close from the server, and option " +
				"http-server-close, have no effect on the client: it still closes first.",
			Since: "all; HAProxy as of 2.6",
			Rules: []string{
				"proxy-tcp-client", "proxy-http-client", "proxy-http-client-shared", "proxy-http-hidden", "proxy-http-hidden-late", "proxy-http-hidden-first", "proxy-dnat-client",
				"proxy-endpoint-client",
			},
		},
		{
			English: "Does HAProxy run out of ports towards its servers?",
			Mark:    Question,
			Short:   "Yes, and the client does not see EADDRNOTAVAIL: it is connected, and then gets 503 or nothing.",
			Shown:   Shown{Rule: "proxyports-exhausted", Evidence: []string{"whole", "unanswered", "log"}, File: "incidents/balancer-without-ports.yaml"},
			Symptom: "bad-gateway",
			Truth: "Yes. In mode tcp, ports are used up by TIME_WAITs (when clients close first) and by the clients' open connections; in mode " +
				"http, only by the requests in progress. The client does not get EADDRNOTAVAIL. Its connect succeeds, and then it gets 503 " +
				"(mode http) or no response (mode tcp). The log says SC, as if the server were at fault. More servers help, and so do " +
				"tcp_tw_reuse=1 on the balancer, option nolinger in the backend, and a source with a range of ports (this one whatever " +
				"tcp_tw_reuse says). If timestamps are off on the balancer or on the servers, tcp_tw_reuse and the range do not help.",
			Since: "all; HAProxy as of 2.6",
			Rules: []string{"proxyports-*"},
		},
		{
			English: "Who notices when HAProxy's client does not get the whole response?",
			Mark:    Question,
			Short:   "Only who counts bytes: towards the client HAProxy makes a FIN of a server's RST.",
			Shown:   Shown{Rule: "proxyloss-rst-unnoticed", Evidence: []string{"whole", "bytes lost", "broken"}},
			Symptom: "truncated",
			Truth: "Only the side that counts bytes. HAProxy sends a FIN to the client in every case: after the server's FIN, after its RST, and " +
				"after a timeout. A client that was told a length knows that bytes are missing. If the end of the connection is the end of " +
				"the response, the client takes the part for the whole, even if the server ended with a RST. In mode tcp HAProxy's log calls " +
				"a server's FIN a normal end (--), wherever it came.",
			Since: "all; HAProxy as of 2.6",
			Rules: []string{"proxyloss-fin-*", "proxyloss-rst*", "proxyloss-stall*"},
		},
	}
}

// omittedKernelClaims are about clients, gateways and the balancer's kernel, where the document
// says nothing.
func omittedKernelClaims() []Claim {
	return []Claim{
		{
			English: "What else helps a client that runs out of ports?",
			Mark:    Question,
			Short:   "More destination ports or addresses, or a wider port range; and bind with SO_REUSEADDR takes the own TIME_WAIT at once.",
			Shown:   Shown{Rule: "remedies-more", Evidence: []string{"connected", "no port", "client TIME_WAIT"}},
			Symptom: "no-port",
			Truth: "More destination ports, more destination addresses and a wider local port range each multiply the number of connections, and " +
				"cost nothing but TIME_WAITs. After an explicit bind with SO_REUSEADDR, connect takes over the port's own TIME_WAIT at once, " +
				"whatever tcp_tw_reuse says, if the old connection had timestamps; without SO_REUSEADDR bind fails (EADDRINUSE). With " +
				"IP_BIND_ADDRESS_NO_PORT connect chooses the port, not bind; this is needed when a program binds only an address.",
			Since: "all; IP_BIND_ADDRESS_NO_PORT since 4.2",
			Rules: []string{
				"remedies-more", "remedies-bind", "exhaustion-bind-reuses", "exhaustion-bind-refused", "exhaustion-address-refused", "exhaustion-late-unknown",
			},
		},
		{
			English: "What if the first connection is not in TIME_WAIT but in FIN_WAIT2, because the client never closed?",
			Mark:    Question,
			Short:   "A SYN inside the old window is refused by RST at once; any other is answered as by a TIME_WAIT, and gets in even with tcp_rfc1337=1.",
			Shown:   Shown{Rule: "tuple-fin-wait-2-answered", Evidence: []string{"answers", "reset", "outcome"}},
			Symptom: "bare-ack",
			Truth: "A SYN inside the old receive window is answered with a RST (ECONNREFUSED at once). Any other SYN is answered with an ACK, " +
				"and the client's RST removes the FIN_WAIT2, even with tcp_rfc1337=1.",
			Since: "all",
			Rules: []string{"tuple-fin-wait-2-refused", "tuple-fin-wait-2-answered", "tuple-fin-wait-2-answered-1s", "tuple-fin-wait-2-blocked"},
		},
		{
			English: "What if the balancer still has the connection established, because the client vanished?",
			Mark:    Question,
			Short:   "It answers by a challenge ACK, the client's RST ends the old connection, and the next SYN gets in.",
			Shown:   Shown{Rule: "tuple-established-challenged", Evidence: []string{"answers", "balancer TcpExt.TCPSYNChallenge", "balancer Tcp.EstabResets", "outcome"}, File: "causes/half-open.yaml"},
			Symptom: "bare-ack",
			Truth: "It answers the SYN with a challenge ACK, the new client's RST resets the old connection, and the retransmitted SYN is " +
				"accepted. If this exchange is broken, the new client cannot connect as long as the old connection exists. The balancer sends " +
				"no second challenge ACK within 500 ms; then the new client needs one more retransmission. Linux 3.8 to 3.17 silently drops " +
				"the SYN.",
			Since: "all",
			Rules: []string{
				"tuple-established-challenged", "tuple-established-older-timestamp", "tuple-established-challenged-1s", "tuple-established-blocked",
				"tuple-challenged-limited", "tuple-challenged-limited-3s", "tuple-established-ignored", "tuple-challenged-ignored",
			},
		},
		{
			English: "How long must a NAT keep a port after its connection has ended, and what does that cost?",
			Mark:    Question,
			Short:   "Longer than 60 s; but P ports that are kept for T seconds make at most P/T connections per second to one destination: 64 for 30 s are 2.1.",
			Shown:   Shown{Rule: "ceiling-ended", Evidence: []string{"percent of the ceiling", "refused by the gateway"}},
			Symptom: "no-answer",
			Truth: "Longer than the balancer's 60 s: then no SYN meets a TIME_WAIT. With a shorter timeout, half of the SYNs of clients without " +
				"a common clock are rejected at first, with or without timestamps. But P ports that are kept for T seconds allow at most P/T " +
				"connections per second to one destination: 64 ports kept for 30 s allow about two. Linux keeps a port for 120 s; since 6.5 " +
				"it takes the port of a closing connection earlier if no other port is free. A client whose SYN finds no port repeats it, and " +
				"gets ETIMEDOUT after about 130 s with the default tcp_syn_retries.",
			Since: "all; ports taken early since 6.5",
			Rules: []string{"share-outlived", "ceiling-*", "profile-*"},
		},
		{
			English: "Who refuses a connection: the client, the gateway or the balancer?",
			Mark:    Question,
			Short:   "The client sends no SYN, the gateway's insert_failed rises, the balancer answers by an ACK or counts ListenOverflows.",
			Shown:   Shown{Rule: "refusal-gateway", Evidence: []string{"connected", "refused by the gateway", "timed out"}, File: "causes/snat-exhausted.yaml"},
			Symptom: "no-answer",
			Truth: "Each one leaves a different sign. The client: connect fails with EADDRNOTAVAIL and sends no SYN. The gateway: insert_failed " +
				"rises, and the balancer sees no SYN. The balancer: PAWSTimewait rises for a rejected timestamp; only the client's RST shows " +
				"a rejected sequence number; ListenOverflows rises for a full accept queue; a RST answers a SYN to a port without a listener.",
			Since: "all; PAWSTimewait since 6.16, PAWSEstab before",
			Rules: []string{"refusal-*"},
		},
	}
}

// omittedSysctlClaims are about both versions of IP, and the other sysctls.
func omittedSysctlClaims() []Claim {
	return []Claim{
		{
			English: "Which sysctls below net.ipv4 act on connections over IPv6?",
			Mark:    Question,
			Short:   "All that are TCP's: there is no net.ipv6.tcp_anything.",
			Shown:   Shown{Rule: "bothversions-tcp-tw-reuse", Evidence: []string{"outcome", "client TcpExt.TWRecycled"}},
			Truth: "All of TCP's: there is no net.ipv6.tcp_anything. Shown are tcp_timestamps, tcp_syn_retries, ip_local_port_range, " +
				"tcp_fin_timeout, tcp_max_tw_buckets, tcp_tw_reuse and tcp_syncookies, which act over IPv6 exactly as over IPv4.",
			Since: "all",
			Rules: []string{"bothversions-*"},
		},
		{
			English: "May two listeners have one port on a host with IPv4 and IPv6?",
			Mark:    Question,
			Short:   "A listener at :: excludes one at 0.0.0.0, unless it has IPV6_V6ONLY.",
			Shown:   Shown{Rule: "dualstack-conflict-both", Evidence: []string{"second listener", "IPv4 reaches"}},
			Truth: "A listener at :: takes IPv4 as well, and excludes one at 0.0.0.0 or at any IPv4 address; with IPV6_V6ONLY it does not. One at " +
				"::1 has nothing to do with IPv4. SO_REUSEADDR does not let two sockets listen. SO_REUSEPORT at both does, but only listeners " +
				"at the same addresses share connections: otherwise the more specific one has all of them, an IPv4 socket before one at ::.",
			Since: "all; SO_REUSEPORT since 3.9",
			Rules: []string{"dualstack-*"},
		},
		{
			English: "Which of the other sysctls named in such advice exist, and with which defaults?",
			Mark:    Question,
			Short:   "tcp_rfc1337 is off; on, it makes of a delay of 10 ms a connection that never comes.",
			Shown:   Shown{Rule: "tuple-older-timestamp-blocked", Evidence: []string{"outcome", "syns", "timer"}, File: "causes/time-wait-rfc1337.yaml"},
			Symptom: "never-connects",
			Truth: "tcp_rfc1337 is off by default; when it is on, a delay of 10 ms becomes a connection that is never established. It hits where " +
				"the balancer closes first, and a NAT gives the port to another client within 60 s: then half of the SYNs. Setting it to 0 helps at " +
				"once, also for TIME_WAITs that are there. The local port range has 28232 ports.",
			Since: "all",
			Rules: []string{"defaults-*", "tuple-older-timestamp-blocked"},
		},
	}
}
