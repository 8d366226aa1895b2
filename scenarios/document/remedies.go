package document

func remedyClaims() []Claim {
	return []Claim{
		{
			Chinese: "HTTP 使用短连接（Connection: close），这时由负载均衡 HaProxy 主动关闭连接，客户端不会产生 timewait。",
			English: "Use short HTTP connections (Connection: close): the balancer closes first and the client has no TIME_WAIT.",
			Mark:    Right,
			Truth: "And who closes instead has them: HAProxy in mode http, towards the client only (its connection to the server it keeps, or ends by a RST); in mode tcp the " +
				"server, which honours the header, and HAProxy as well, one each; behind DNAT the server alone. option httpclose and timeout http-keep-alive do the same " +
				"without the client's help. The client's port is free at once, and when the same client comes back on it, its newer timestamp or sequence number " +
				"is accepted; when another client comes from the same address and port, everything said above about five-tuples applies.",
			Since: "all; HAProxy as in 2.6",
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
			Truth: "It does, on both sides and at once. What has not been sent when close is called is thrown away, and the reader gets ECONNRESET. Read to the peer's end first. " +
				"HAProxy in mode tcp passes the RST on to the server; in mode http it does not look at the client while it waits for the server. Its own option nolinger of " +
				"the frontend has the same effect, even on a client that closes first, and the same danger: a client whose window is too small for the response gets a part " +
				"of it, fewer bytes than Content-Length announced, while HAProxy's log says that all is well.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{
				"remedies-linger", "remedies-linger-loses-data", "exhaustion-reset",
				"proxy-tcp-reset", "proxy-http-reset", "proxy-dnat-reset", "proxy-endpoint-reset",
				"proxy-http-nolinger-*", "proxy-tcp-client-nolinger-*", "proxy-tcp-idle-nolinger-*", "proxyloss-nolinger", "proxyloss-none", "proxyloss-cut-nolinger*", "proxyloss-client-*",
			},
		},
	}
}

// omittedProxyClaims are what is left out of HAProxy.
func omittedProxyClaims() []Claim {
	return []Claim{
		{
			English: "Who has the TIME_WAITs when the client closes first, with HAProxy in between?",
			Mark:    Question,
			Truth: "The client, always. In mode tcp HAProxy has as many again, towards the server: it passes the FIN on and so closes first there. In mode http it has none, " +
				"because it keeps a connection that its client has left, or ends it by a RST (the server sees a reset connection and loses nothing). A server that " +
				"says Connection: close, and option http-server-close, do not reach the client: it closes first all the same.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{
				"proxy-tcp-client", "proxy-http-client", "proxy-http-client-shared", "proxy-http-hidden", "proxy-http-hidden-late", "proxy-http-hidden-first", "proxy-dnat-client",
				"proxy-endpoint-client",
			},
		},
		{
			English: "Does HAProxy run out of ports towards its servers?",
			Mark:    Question,
			Truth: "In mode tcp, by TIME_WAITs when clients close first and by the clients' open connections; in mode http by the requests under way only. The client does not " +
				"see EADDRNOTAVAIL: its connect succeeds, and then it gets 503 (mode http) or nothing (mode tcp), and the log says SC, as if it were the server's " +
				"fault. More servers, tcp_tw_reuse=1 on the balancer, option nolinger of the backend, and a source with a range of ports help, the last whatever " +
				"tcp_tw_reuse says; with timestamps off on the balancer or on the servers, tcp_tw_reuse and the range do not.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{"proxyports-*"},
		},
		{
			English: "Who notices a response that HAProxy's client does not get in full?",
			Mark:    Question,
			Truth: "Whoever counts. HAProxy makes a FIN towards the client of everything: of the server's FIN, of its RST, of a timeout. A client that was told a length knows " +
				"that bytes are missing; one whose response ends with the connection takes the part for the whole, even where the server died by a RST. In mode tcp " +
				"HAProxy's log does not tell either.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{"proxyloss-fin-*", "proxyloss-rst*", "proxyloss-stall*"},
		},
	}
}

// omittedKernelClaims are what is left out of clients, gateways and the kernel.
func omittedKernelClaims() []Claim {
	return []Claim{
		{
			English: "What else helps a client without ports?",
			Mark:    Question,
			Truth: "More destination ports or addresses and a wider local port range each multiply the connections, and cost nothing but TIME_WAITs. An explicit " +
				"bind with SO_REUSEADDR takes its own TIME_WAIT at once, whatever tcp_tw_reuse says, if the connection had timestamps; without SO_REUSEADDR bind fails " +
				"(EADDRINUSE). IP_BIND_ADDRESS_NO_PORT leaves the choice of the port to connect, which is needed when only an address is bound.",
			Since: "all; IP_BIND_ADDRESS_NO_PORT since 4.2",
			Rules: []string{
				"remedies-more", "remedies-bind", "exhaustion-bind-reuses", "exhaustion-bind-refused", "exhaustion-address-refused", "exhaustion-late-unknown",
			},
		},
		{
			English: "What if the first connection is not in TIME_WAIT but in FIN_WAIT2, because the client never closed?",
			Mark:    Question,
			Truth: "A SYN inside the old receive window is refused by RST (ECONNREFUSED at once); any other is answered by an ACK, and the RST removes the " +
				"FIN_WAIT2 even with tcp_rfc1337=1.",
			Since: "all",
			Rules: []string{"tuple-fin-wait-2-refused", "tuple-fin-wait-2-answered", "tuple-fin-wait-2-answered-1s", "tuple-fin-wait-2-blocked"},
		},
		{
			English: "What if the balancer still has the connection established, because the client vanished?",
			Mark:    Question,
			Truth: "It challenges the SYN by an ACK, the newcomer's RST resets the old connection, and the repeated SYN gets in. Where that exchange is broken " +
				"the newcomer is shut out as long as the old connection stands. The balancer leaves a challenge out that would follow another within 500 ms, " +
				"which costs the newcomer one repetition; and from Linux 3.8 to 3.17 it drops the SYN without a word.",
			Since: "all",
			Rules: []string{
				"tuple-established-challenged", "tuple-established-older-timestamp", "tuple-established-challenged-1s", "tuple-established-blocked",
				"tuple-challenged-limited", "tuple-challenged-limited-3s", "tuple-established-ignored", "tuple-challenged-ignored",
			},
		},
		{
			English: "How long must a NAT keep a port after its connection, and what does that cost?",
			Mark:    Question,
			Truth: "Longer than the balancer's 60 s: then no SYN meets a TIME_WAIT. A shorter timeout lets half of the SYNs of clients without a common clock be refused at " +
				"first, timestamps or not. But P ports held T seconds are at most P/T connections per second to one destination: 64 ports held 30 s are two. " +
				"Linux keeps it for 120 s, and since 6.5 takes the port of a closing connection before its time when it has no other.",
			Since: "all; ports taken before their time since 6.5",
			Rules: []string{"share-outlived", "ceiling-*", "profile-*"},
		},
		{
			English: "Who refuses a connection: the client, the gateway or the balancer?",
			Mark:    Question,
			Truth: "Each has its own sign. The client: EADDRNOTAVAIL, and no SYN. The gateway: insert_failed, and the balancer sees none. The balancer: PAWSTimewait for a " +
				"timestamp, only the client's RST for a sequence number, ListenOverflows for a full queue, a RST where nobody listens.",
			Since: "all; PAWSTimewait since 6.16, PAWSEstab before",
			Rules: []string{"refusal-*"},
		},
		{
			English: "Which of the other sysctls named in such advice exist, and with which defaults?",
			Mark:    Question,
			Truth:   "tcp_rfc1337 is off by default, and turns a delay of 10 ms into a connection that never comes. The local port range has 28232 ports.",
			Since:   "all",
			Rules:   []string{"defaults-*", "tuple-older-timestamp-blocked"},
		},
	}
}
