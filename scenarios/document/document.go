package document

// Section is a part of the document with its claims.
type Section struct {
	Title  string
	Claims []Claim
}

// Document lists what the document says, sentence by sentence, and last what it
// leaves out.
func Document() []Section {
	return []Section{
		{"背景: background", backgroundClaims()},
		{"Linux 参数介绍: the sysctls", sysctlClaims()},
		{"原因分析: why there are too many TIME_WAITs", causeClaims()},
		{"原因分析 2: tcp_tw_recycle behind NAT", recycleClaims()},
		{"原因分析 3: a five-tuple that is used again", tupleClaims()},
		{"解决方案: the remedies", remedyClaims()},
		{"What the document leaves out", omittedClaims()},
	}
}

func backgroundClaims() []Claim {
	return []Claim{{
		Chinese: "在压测负载均衡 HaProxy 时，会遇到一些客户端 timewait 过多，端口被快速占满，导致 connect 失败的问题。",
		English: "Under load, clients get so many TIME_WAITs that their ports are used up and connect fails.",
		Mark:    Right,
		Truth: "The connect after the last free port fails with EADDRNOTAVAIL and sends nothing. Ports are used up towards one " +
			"destination address and port only: towards another port of the same balancer the same local ports work at once.",
		Since: "all",
		Rules: []string{"remedies-none", "remedies-more"},
	}}
}

func sysctlClaims() []Claim {
	return []Claim{
		{
			Chinese: "tcp_timestamps ： 是否开启 tcp timestamps 选项，缺省是开启状态",
			English: "tcp_timestamps: whether the option is on; it is by default.",
			Mark:    Right,
			Truth:   "The default is 1. Since Linux 4.10 there is 2 as well: on, without the random offset that hides the uptime.",
			Since:   "all; a value for each network namespace since 4.13",
			Rules:   []string{"defaults-tcp-timestamps-*", "defaults-own", "defaults-exists", "defaults-shared", "clock-uptime"},
		},
		{
			Chinese: "timestamps 是在 tcp 三次握手过程中协商的，任意一方不支持，该连接就不会使用 timestamps 选项。",
			English: "Timestamps are negotiated in the handshake; when one side lacks them the connection does without.",
			Mark:    Right,
			Truth: "The option is in the SYN when the opener's tcp_timestamps is not 0, in the SYN-ACK when both sides' are not, and in use " +
				"exactly then, on both sides, whoever connects.",
			Since: "all",
			Rules: []string{"negotiation-agreed", "negotiation-not-offered", "negotiation-not-taken", "clock-none"},
		},
		{
			Chinese: "tcp_tw_recycle ： 是否开启tcp_tw_recycle选项，缺省是关闭状态且关联tcp_timestamps选项，" +
				"如果需要开启tcp_tw_recycle选项，必须先开启tcp_timestamps选项。",
			English: "tcp_tw_recycle is off by default and depends on tcp_timestamps, which has to be turned on first.",
			Mark:    Dated,
			Truth: "There is no such sysctl since Linux 4.12: to set it is an error. Before, it could be set in any order, but did something " +
				"only for connections with timestamps.",
			Since: "up to 4.11",
			Rules: []string{"defaults-tcp-tw-recycle-*", "recycle-*"},
		},
		{
			Chinese: "它用来快速回收TIME_WAIT连接，不过如果在NAT环境下会引发问题。",
			English: "It is for getting rid of TIME_WAITs quickly, but makes trouble behind NAT.",
			Mark:    Dated,
			Truth: "On the kernels that had it a TIME_WAIT lasted 3.5 retransmission timeouts instead of 60 s, and a host that closed first remembered " +
				"each peer address's last timestamp for 60 s and silently dropped SYNs with older ones: of all clients behind one address only those " +
				"with the newest clock got in. That is why it was removed.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*"},
		},
		{
			Chinese: "tcp_tw_reuse ： 默认值2表示仅环回流量开启，0表示关闭，1表示开启",
			English: "tcp_tw_reuse: the default 2 means loopback traffic only, 0 off, 1 on.",
			Mark:    Imprecise,
			Truth: "2 exists, and is the default, since Linux 4.19; before, the default was 0. \"Loopback\" means a loopback address at either end " +
				"or a socket bound to lo: a connect to the host's own other addresses goes through lo as well and does not count.",
			Since: "since 4.19; for each network namespace since 4.10",
			Rules: []string{"defaults-tcp-tw-reuse-*", "exhaustion-reuse-loopback-only", "exhaustion-reuse-off", "exhaustion-reused"},
		},
		{
			Chinese: "它用于复用TIME_WAIT连接，通常认为tcp_tw_reuse比tcp_tw_recycle更安全一些",
			English: "It is for using TIME_WAIT connections again, and is thought to be safer than tcp_tw_recycle.",
			Mark:    Right,
			Truth: "It makes connect, on the side that connects, take the port of its own TIME_WAIT for the same destination. It does nothing on the " +
				"side that is connected to, and does not remove TIME_WAITs.",
			Since: "all",
			Rules: []string{"exhaustion-reused", "exhaustion-reuse-off", "exhaustion-balancer-newer-stamp"},
		},
		{
			Chinese: "一来TIME_WAIT创建时间必须超过一秒才可能会被复用",
			English: "For one, a TIME_WAIT must be older than a second before it may be used again.",
			Mark:    Imprecise,
			Truth: "Since Linux 6.14 it is tcp_tw_reuse_delay, 1000 ms by default. From 4.19 to 6.13 the clock's next whole second is enough " +
				"(0 to 1 s), before it took two (1 to 2 s), and the age counted from the last timestamp received. A port that was bound " +
				"explicitly with SO_REUSEADDR is taken at once.",
			Since: "as said",
			Rules: []string{"exhaustion-too-young", "exhaustion-too-young-1s", "exhaustion-reused", "exhaustion-bind-reuses", "defaults-tcp-tw-reuse-delay-*"},
		},
		{
			Chinese: "二来只有连接的时间戳是递增的时候才会被复用。",
			English: "For another, it is used again only when the connection's timestamps increase.",
			Mark:    Wrong,
			Truth: "No timestamps are compared. It is enough that the old connection had them; the new SYN then carries the next timestamp of the same clock, " +
				"and a sequence number beyond the old connection's, so the peer accepts it.",
			Since: "all",
			Rules: []string{"exhaustion-reused", "exhaustion-no-timestamps"},
		},
	}
}

func causeClaims() []Claim {
	return []Claim{
		{
			Chinese: "客户端 timewait 太多，是因为客户端主动断开连接，客户端每断开一个连接，该连接都会进入 timewait 状态",
			English: "The client has too many TIME_WAITs because it closes first; each connection that it closes enters TIME_WAIT.",
			Mark:    Imprecise,
			Truth: "Who closes first by FIN keeps the TIME_WAIT. A connection that is ended by RST leaves none, and a host that has tcp_max_tw_buckets " +
				"of them makes no more.",
			Since: "all",
			Rules: []string{"remedies-none", "remedies-lb-closes", "exhaustion-reset", "exhaustion-overflow", "defaults-tcp-max-tw-buckets-*"},
		},
		{
			Chinese: "默认60s超时回收。",
			English: "It times out after 60 s by default.",
			Mark:    Imprecise,
			Truth: "60 s it is, but not by default: it is a constant of the kernel (TCP_TIMEWAIT_LEN). tcp_fin_timeout, which is often taken for it, " +
				"shortens FIN_WAIT2 only.",
			Since: "all",
			Rules: []string{"length-*", "tuple-free-after-60s", "defaults-tcp-fin-timeout-*"},
		},
		{
			Chinese: "客户会选择打开 tcp_tw_recycle 和 tcp_tw_reuse 两个参数，便于回收 timewait 状态连接。",
			English: "Customers choose to turn on tcp_tw_recycle and tcp_tw_reuse, to reclaim connections in TIME_WAIT.",
			Mark:    Dated,
			Truth: "tcp_tw_recycle is gone since Linux 4.12. tcp_tw_reuse reclaims nothing: the TIME_WAITs stay, but connect may take their ports, at best " +
				"once per port and tcp_tw_reuse_delay.",
			Since: "up to 4.11 for both",
			Rules: []string{"defaults-tcp-tw-recycle-*", "recycle-*", "exhaustion-reused", "exhaustion-too-young"},
		},
		{
			Chinese: "然而当前负载均衡 HaProxy 没有打开 tcp_timestamps 选项，导致客户端打开的 tcp_tw_recycle 和 tcp_tw_reuse 都不会生效，" +
				"不能快速回收 timewait 状态连接。",
			English: "The balancer has tcp_timestamps off, so the client's tcp_tw_recycle and tcp_tw_reuse have no effect.",
			Mark:    Right,
			Truth: "A TIME_WAIT of a connection without timestamps is never taken: not by tcp_tw_reuse=1, and not by an explicit bind with SO_REUSEADDR " +
				"either. To turn timestamps off on the balancer takes this remedy from every client.",
			Since: "all",
			Rules: []string{"exhaustion-no-timestamps", "exhaustion-bind-needs-timestamps", "remedies-bind-bare", "recycle-*"},
		},
		{
			Chinese: "tcp_tw_recycle 和 tcp_tw_reuse 只有在 tcp_timestamps 打开时才会生效。",
			English: "Both work only when tcp_timestamps is on.",
			Mark:    Right,
			Truth:   "On both sides: the connection must have agreed on timestamps.",
			Since:   "all",
			Rules:   []string{"exhaustion-no-timestamps", "exhaustion-reused", "recycle-*"},
		},
	}
}

func recycleClaims() []Claim {
	return []Claim{
		{
			Chinese: "tcp_timestamps 和 tcp_tw_recycle 是不能同时打开的，因为公网客户端经过 NAT 网关访问服务器，会存在问题",
			English: "tcp_timestamps and tcp_tw_recycle must not both be on, because clients behind a NAT gateway then have trouble.",
			Mark:    Dated,
			Truth: "Right for servers up to Linux 4.11: with both on, a SYN whose timestamp is older than the last one of that address is dropped without an answer, " +
				"and the client's connect times out.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*"},
		},
		{
			Chinese: "tcp_tw_recycle/tcp_timestamps 都开启的条件下，60s内同一源 IP 主机的 socket connect 请求中的 timestamp 必须是递增的。",
			English: "With both on, the timestamps in the connect requests of one source address must increase within 60 s.",
			Mark:    Dated,
			Truth: "Right but for two details. The memory is filled only by connections that this host itself closed first; " +
				"where clients always close first the server learns nothing and drops nothing. And since Linux 3.17 a SYN without timestamps is dropped too. " +
				"With clients of different uptimes the younger never gets in as long as the older keeps connecting.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*", "uptimes-*"},
		},
		{
			Chinese: "TCP_PAWS_MSL：60s，该条件判断表示该源 IP 的上次 tcp 通讯发生在60s内。TCP_PAWS_WINDOW：1，" +
				"该条件判断表示该源 IP 的上次 tcp 通讯的 timestamp 大于本次 tcp。",
			English: "TCP_PAWS_MSL, 60 s: the last TCP traffic of that address was within 60 s. TCP_PAWS_WINDOW, 1: its timestamp was greater than this one.",
			Mark:    Dated,
			Truth: "The snippet is faithful to 2.6.32, the reading is not: what counts is the last timestamp of a connection that this host closed first, " +
				"and it must be greater by more than one tick.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*"},
		},
	}
}

func tupleClaims() []Claim {
	return []Claim{
		{
			Chinese: "某五元组还是 time_wait 状态。NAT网关对端口的分配策略，2MSL 内复用了同个五元组，发来 syn 包。",
			English: "A five-tuple is still in TIME_WAIT; the NAT gateway, as it assigns ports, uses the same one again within 2MSL and sends a SYN.",
			Mark:    Imprecise,
			Truth: "Not a Linux gateway by itself: it remembers a closed connection for 120 s, twice as long as the balancer's TIME_WAIT, and gives another " +
				"client another port. It happens when that time was shortened, when the same client comes back on its port, with a small port pool since " +
				"Linux 6.5, which evicts closing connections, and with gateways of other makes. When the pool is exhausted and nothing can be evicted the SYN dies on the " +
				"gateway (insert_failed), and the balancer never sees it.",
			Since: "as said",
			Rules: []string{"gateway-*", "defaults-nf-conntrack-tcp-timeout-time-wait-*"},
		},
		{
			Chinese: "在开启 tcp_timestamps 情况下，同时满足如下两个条件，会丢弃该 syn 包（因为开启了时间戳选项，认为是老包）。",
			English: "With tcp_timestamps on, the SYN is dropped when both of the following hold (it is taken for an old packet).",
			Mark:    Wrong,
			Truth: "It is rejected, but not dropped: the TIME_WAIT answers by an ACK, the client answers that by a RST, the RST removes the TIME_WAIT, and the " +
				"repeated SYN gets in: some 10 ms later since Linux 5.6 on the client, 1 s later before, 3 s before 3.1. connect fails only where that exchange is " +
				"broken: tcp_rfc1337=1 on the balancer, or a RST or ACK that is lost or not translated. Then each rejected SYN begins the 60 s anew.",
			Since: "all",
			Rules: []string{
				"tuple-older-stamp-answered", "tuple-older-stamp-answered-1s", "tuple-older-stamp-shut-out", "chance-many-hosts",
			},
		},
		{
			Chinese: "上次时间戳 > 本次时间戳。",
			English: "The last timestamp is greater than this one.",
			Mark:    Right,
			Truth: "Greater by the sign of the 32 bit difference, not by a single tick less; an equal timestamp leaves it to the sequence number, and a newer " +
				"one is accepted whatever the sequence number is.",
			Since: "all",
			Rules: []string{"tuple-older-stamp-answered", "tuple-newer-stamp", "tuple-newer-number", "tuple-older-number-answered"},
		},
		{
			Chinese: "24天内收过包（时间戳字段是32位，Linux 默认1ms更新一次时间戳，24天会发生时间戳回绕）。",
			English: "A packet came within 24 days (the field has 32 bits, Linux advances it by 1 each millisecond, so it wraps in 24 days).",
			Mark:    Imprecise,
			Truth: "The condition is always met: a TIME_WAIT lives for 60 s. (On an established connection it is 24 days up to Linux 6.6, 2147 s since: after that an " +
				"older timestamp is accepted.) One tick is 1 ms since Linux 4.13 " +
				"and a timer interrupt (1 to 10 ms) before. The sign of a difference turns after 24.8 days, the clock wraps after 49.7, and a wrap does no harm. " +
				"With tcp_timestamps=1 the clock begins at a random offset anyway.",
			Since: "tick of 1 ms since 4.13",
			Rules: []string{"clock-*", "tuple-newer-stamp", "tuple-wrapped-out-of-reach", "idle-*"},
		},
		{
			Chinese: "在移动端该问题更为明显，因为客户端都是在运营商NAT网关下面共享有限的公网 IP，五元组还可能在2MSL内被复用，" +
				"不同客户端传来的时间戳不能保证是递增的。",
			English: "With mobile clients it is worse: they share few public addresses behind the carrier's NAT, five-tuples may be used again within 2MSL, and " +
				"different clients' timestamps do not increase.",
			Mark: Right,
			Truth: "Between different hosts it is the toss of a coin. Since Linux 7.0, and in many stable kernels, it is so even for a single host, because the random " +
				"offset depends on the port again; tcp_timestamps=2 on the clients takes the offset away. Where timestamps are uptimes, with that and before " +
				"Linux 4.10, there is no coin: who was booted later is always the older one to the balancer.",
			Since: "all; one host alone since 7.0 and in stable kernels with commit 165573e41f2f",
			Rules: []string{
				"chance-many-hosts", "chance-many-hosts-one-clock", "chance-one-host-many-offsets", "chance-one-host-one-offset",
				"chance-one-host-one-clock", "clock-per-port", "clock-per-host", "uptimes-*", "share-clocks-*", "share-one-clock", "persona-short-hold*",
			},
		},
		{
			Chinese: "负载均衡 HaProxy 关闭了 tcp_timestamps 原因，因为公网客户端经过 NAT 网关访问服务器，可能会存在问题",
			English: "That is why the balancer has turned tcp_timestamps off.",
			Mark:    Wrong,
			Truth: "It does not help. Without timestamps the TIME_WAIT goes by the initial sequence number, which between different clients is as random: as many " +
				"SYNs are rejected, by the same ACK. What is lost is the protection of newer timestamps, and tcp_tw_reuse for every client.",
			Since: "all",
			Rules: []string{
				"chance-by-number", "share-numbers", "tuple-older-number-answered", "tuple-older-number-answered-1s", "tuple-older-number-unhindered",
				"tuple-older-number-shut-out", "tuple-older-number-shut-out-for-good", "tuple-newer-number", "exhaustion-no-timestamps",
			},
		},
		{
			Chinese: "timestamp和tw_recycle同时开启的条件下，timewait状态socket释放的超时时间和rto相关；否则，超时时间为TCP_TIMEWAIT_LEN（即60s）。",
			English: "With timestamps and tw_recycle on, TIME_WAIT lasts for a time that follows the RTO; otherwise for TCP_TIMEWAIT_LEN, 60 s.",
			Mark:    Dated,
			Truth: "Right: 3.5 times the retransmission timeout, at least 0.7 s. But the snippet, tcp_time_wait(), is not the code that rejects the SYN; that is " +
				"tcp_timewait_state_process().",
			Since: "up to 4.11; always 60 s since",
			Rules: []string{"recycle-*", "length-*"},
		},
	}
}

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
				"remedies-lb-closes", "exhaustion-balancer-newer-stamp", "exhaustion-balancer-newer-number",
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

func omittedClaims() []Claim {
	return []Claim{
		{
			English: "Who has the TIME_WAITs when the client closes first, with HAProxy in between?",
			Mark:    Right,
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
			Mark:    Right,
			Truth: "In mode tcp, by TIME_WAITs when clients close first and by the clients' open connections; in mode http by the requests under way only. The client does not " +
				"see EADDRNOTAVAIL: its connect succeeds, and then it gets 503 (mode http) or nothing (mode tcp), and the log says SC, as if it were the server's " +
				"fault. More servers, tcp_tw_reuse=1 on the balancer, option nolinger of the backend, and a source with a range of ports help, the last whatever " +
				"tcp_tw_reuse says; with timestamps off on the balancer or on the servers, tcp_tw_reuse and the range do not.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{"proxyports-*"},
		},
		{
			English: "Who notices a response that HAProxy's client does not get in full?",
			Mark:    Right,
			Truth: "Whoever counts. HAProxy makes a FIN towards the client of everything: of the server's FIN, of its RST, of a timeout. A client that was told a length knows " +
				"that bytes are missing; one whose response ends with the connection takes the part for the whole, even where the server died by a RST. In mode tcp " +
				"HAProxy's log does not tell either.",
			Since: "all; HAProxy as in 2.6",
			Rules: []string{"proxyloss-fin-*", "proxyloss-rst*", "proxyloss-stall*"},
		},
		{
			English: "What else helps a client without ports?",
			Mark:    Right,
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
			Mark:    Right,
			Truth: "A SYN inside the old receive window is refused by RST (ECONNREFUSED at once); any other is answered by an ACK, and the RST removes the " +
				"FIN_WAIT2 even with tcp_rfc1337=1.",
			Since: "all",
			Rules: []string{"tuple-fin-wait-2-refused", "tuple-fin-wait-2-answered", "tuple-fin-wait-2-answered-1s", "tuple-fin-wait-2-cut-off"},
		},
		{
			English: "What if the balancer still has the connection established, because the client vanished?",
			Mark:    Right,
			Truth: "It challenges the SYN by an ACK, the newcomer's RST resets the old connection, and the repeated SYN gets in. Where that exchange is broken " +
				"the newcomer is shut out as long as the old connection stands. The balancer leaves a challenge out that would follow another within 500 ms, " +
				"which costs the newcomer one repetition; and from Linux 3.8 to 3.17 it drops the SYN without a word.",
			Since: "all",
			Rules: []string{
				"tuple-established-challenged", "tuple-established-older-stamp", "tuple-established-challenged-1s", "tuple-established-cut-off",
				"tuple-challenged-limited", "tuple-challenged-limited-3s", "tuple-established-ignored", "tuple-challenged-ignored",
			},
		},
		{
			English: "How long must a NAT hold a port after its connection, and what does that cost?",
			Mark:    Right,
			Truth: "Longer than the balancer's 60 s: then no SYN meets a TIME_WAIT. A shorter hold lets half of the SYNs of clients without a common clock be refused at " +
				"first, timestamps or not. But P ports held T seconds are at most P/T connections per second to one destination: 64 ports held 30 s are two. " +
				"Linux holds for 120 s, and since 6.5 takes the port of a closing connection before its time when it has no other.",
			Since: "all; ports taken before their time since 6.5",
			Rules: []string{"share-outlived", "ceiling-*", "persona-*"},
		},
		{
			English: "Who refuses a connection: the client, the gateway or the balancer?",
			Mark:    Right,
			Truth: "Each has its own sign. The client: EADDRNOTAVAIL, and no SYN. The gateway: insert_failed, and the balancer sees none. The balancer: PAWSTimewait for a " +
				"timestamp, only the client's RST for a sequence number, ListenOverflows for a full queue, a RST where nobody listens.",
			Since: "all; PAWSTimewait since 6.16, PAWSEstab before",
			Rules: []string{"refusal-*"},
		},
		{
			English: "Which of the other sysctls named in such advice exist, and with which defaults?",
			Mark:    Right,
			Truth:   "tcp_rfc1337 is off by default, and turns a delay of 10 ms into a connection that never comes. The local port range has 28232 ports.",
			Since:   "all",
			Rules:   []string{"defaults-*", "tuple-older-stamp-shut-out"},
		},
	}
}
