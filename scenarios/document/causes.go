package document

func causeClaims() []Claim {
	return []Claim{
		{
			Chinese: "客户端 timewait 太多，是因为客户端主动断开连接，客户端每断开一个连接，该连接都会进入 timewait 状态",
			English: "The client has too many TIME_WAITs because it closes first; each connection that it closes enters TIME_WAIT.",
			Mark:    Imprecise,
			Truth: "Who closes first by FIN keeps the TIME_WAIT. A connection that is ended by RST leaves none, and a host that has tcp_max_tw_buckets " +
				"of them makes no more.",
			Since: "all",
			Rules: []string{"remedies-none", "remedies-balancer-closes", "exhaustion-reset", "exhaustion-overflow", "defaults-tcp-max-tw-buckets-*"},
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
			Rules: []string{"exhaustion-no-timestamps", "exhaustion-bind-needs-timestamps", "remedies-bind-no-timestamps", "recycle-*"},
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

// rejectionClaims are about the SYN that meets a TIME_WAIT, and when it is rejected.
func rejectionClaims() []Claim {
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
				"tuple-older-timestamp-answered", "tuple-older-timestamp-answered-1s", "tuple-older-timestamp-blocked", "chance-many-hosts",
			},
		},
		{
			Chinese: "上次时间戳 > 本次时间戳。",
			English: "The last timestamp is greater than this one.",
			Mark:    Right,
			Truth: "Greater by the sign of the 32 bit difference, not by a single tick less; an equal timestamp leaves it to the sequence number, and a newer " +
				"one is accepted whatever the sequence number is.",
			Since: "all",
			Rules: []string{"tuple-older-timestamp-answered", "tuple-newer-timestamp", "tuple-newer-number", "tuple-older-number-answered"},
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
			Rules: []string{"clock-*", "tuple-newer-timestamp", "tuple-wrapped-out-of-reach", "idle-*"},
		},
	}
}

// balancerClaims are about why the balancer has turned timestamps off, and how long it
// keeps a TIME_WAIT.
func balancerClaims() []Claim {
	return []Claim{
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
				"chance-one-host-one-clock", "clock-per-port", "clock-per-host", "uptimes-*", "share-clocks-*", "share-one-clock", "profile-short-timeout*",
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
				"tuple-older-number-blocked", "tuple-older-number-blocked-for-good", "tuple-newer-number", "exhaustion-no-timestamps",
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
