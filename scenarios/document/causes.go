package document

func causeClaims() []Claim {
	return []Claim{
		{
			Chinese: "客户端 timewait 太多，是因为客户端主动断开连接，客户端每断开一个连接，该连接都会进入 timewait 状态",
			English: "The client has too many TIME_WAITs because it closes first; each connection that it closes enters TIME_WAIT.",
			Mark:    Imprecise,
			Short:   "Whoever sends the first FIN has the TIME_WAIT; a connection that ends by RST leaves none.",
			Shown:   Shown{Rule: "remedies-balancer-closes", Evidence: []string{"client TIME_WAIT", "balancer TIME_WAIT"}},
			Symptom: "no-port",
			Truth: "The side that sends the first FIN keeps the TIME_WAIT. A connection that ends with a RST leaves none, and a host that " +
				"already has tcp_max_tw_buckets TIME_WAITs creates no more.",
			Since: "all",
			Rules: []string{"remedies-none", "remedies-balancer-closes", "exhaustion-reset", "exhaustion-overflow", "defaults-tcp-max-tw-buckets-*"},
		},
		{
			Chinese: "默认60s超时回收。",
			English: "It times out after 60 s by default.",
			Mark:    Imprecise,
			Short:   "It is 60 s always: a constant, which tcp_fin_timeout does not change.",
			Shown:   Shown{Rule: "length-fin-timeout-5", Evidence: []string{"time-wait", "fin-wait-2 lasts"}},
			Truth: "It is 60 s, but that is not a default: it is a constant of the kernel (TCP_TIMEWAIT_LEN). tcp_fin_timeout is often mistaken " +
				"for it, but shortens only FIN_WAIT2.",
			Since: "all",
			Rules: []string{"length-*", "tuple-free-after-60s", "defaults-tcp-fin-timeout-*"},
		},
		{
			Chinese: "客户会选择打开 tcp_tw_recycle 和 tcp_tw_reuse 两个参数，便于回收 timewait 状态连接。",
			English: "Customers choose to turn on tcp_tw_recycle and tcp_tw_reuse, to reclaim connections in TIME_WAIT.",
			Mark:    Dated,
			Short:   "tcp_tw_recycle is gone since Linux 4.12, and tcp_tw_reuse reclaims nothing: it gives each port once in tcp_tw_reuse_delay.",
			Shown:   Shown{Rule: "exhaustion-too-young", Evidence: []string{"outcome", "client time-wait", "client time-wait after"}},
			Symptom: "no-port",
			Truth: "Linux 4.12 removed tcp_tw_recycle. tcp_tw_reuse does not reclaim anything: the TIME_WAITs stay. connect may take their " +
				"ports, but each port at most once per tcp_tw_reuse_delay.",
			Since: "both exist up to 4.11",
			Rules: []string{"defaults-tcp-tw-recycle-*", "recycle-*", "exhaustion-reused", "exhaustion-too-young"},
		},
		{
			Chinese: "然而当前负载均衡 HaProxy 没有打开 tcp_timestamps 选项，导致客户端打开的 tcp_tw_recycle 和 tcp_tw_reuse 都不会生效，" +
				"不能快速回收 timewait 状态连接。",
			English: "The balancer has tcp_timestamps off, so the client's tcp_tw_recycle and tcp_tw_reuse have no effect.",
			Mark:    Right,
			Short:   "With timestamps off on the balancer tcp_tw_reuse=1 on a client is harmless and useless: it is never used, and connect goes on failing with EADDRNOTAVAIL.",
			Shown:   Shown{Rule: "exhaustion-no-timestamps", Evidence: []string{"timestamps", "outcome", "client TcpExt.TWRecycled"}},
			Symptom: "no-port",
			Truth: "A TIME_WAIT of a connection without timestamps is never reused: not by tcp_tw_reuse=1, and not by an explicit bind with " +
				"SO_REUSEADDR. If the balancer turns timestamps off, no client can use this remedy.",
			Since: "all",
			Rules: []string{"exhaustion-no-timestamps", "exhaustion-bind-needs-timestamps", "remedies-bind-no-timestamps", "recycle-*"},
		},
		{
			Chinese: "tcp_tw_recycle 和 tcp_tw_reuse 只有在 tcp_timestamps 打开时才会生效。",
			English: "Both work only when tcp_timestamps is on.",
			Mark:    Right,
			Short:   "They must be on at both sides; where one side has them off, tcp_tw_reuse is never used, which harms nobody.",
			Shown:   Shown{Rule: "exhaustion-no-timestamps", Evidence: []string{"timestamps", "outcome", "client TcpExt.TWRecycled"}},
			Symptom: "no-port",
			Truth:   "It must be on at both sides: the connection must have negotiated timestamps.",
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
			Short:   "True up to Linux 4.11, where the server dropped SYNs silently; since 4.12 there is nothing to turn on.",
			Shown:   Shown{Rule: "recycle-gone-balancer", Evidence: []string{"tcp_tw_recycle", "passive rejects", "outcome"}},
			Symptom: "no-answer",
			Truth: "True for servers up to Linux 4.11. With both on, the server silently drops a SYN whose timestamp is older than the last one " +
				"of that address, and the client's connect times out.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*"},
		},
		{
			Chinese: "tcp_tw_recycle/tcp_timestamps 都开启的条件下，60s内同一源 IP 主机的 socket connect 请求中的 timestamp 必须是递增的。",
			English: "With both on, the timestamps in the connect requests of one source address must increase within 60 s.",
			Mark:    Dated,
			Short:   "True up to Linux 4.11, and only after a connection that the server had closed first.",
			Shown:   Shown{Rule: "recycle-gone-balancer", Evidence: []string{"tcp_tw_recycle", "passive rejects", "outcome"}},
			Symptom: "no-answer",
			Truth: "True, except for two details. First, the server remembers the timestamps only of connections that it closed first itself: if " +
				"clients always close first, it remembers nothing and drops nothing. Second, since Linux 3.17 it also drops a SYN without " +
				"timestamps. Of two clients with different uptimes, the one that booted later cannot connect as long as the other one keeps " +
				"connecting.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*", "uptimes-*"},
		},
		{
			Chinese: "TCP_PAWS_MSL：60s，该条件判断表示该源 IP 的上次 tcp 通讯发生在60s内。TCP_PAWS_WINDOW：1，" +
				"该条件判断表示该源 IP 的上次 tcp 通讯的 timestamp 大于本次 tcp。",
			English: "TCP_PAWS_MSL, 60 s: the last TCP traffic of that address was within 60 s. TCP_PAWS_WINDOW, 1: its timestamp was greater than this one.",
			Mark:    Dated,
			Short:   "The code of Linux 2.6.32 is quoted well and explained badly: what counts is the last connection that this host closed first, and one tick is allowed.",
			Shown:   Shown{Rule: "recycle-gone-balancer", Evidence: []string{"tcp_tw_recycle", "passive rejects", "outcome"}},
			Symptom: "no-answer",
			Truth: "The document quotes the code of 2.6.32 correctly, but explains it wrongly. The kernel compares with the last timestamp of a " +
				"connection that this host closed first. It drops the SYN only if that timestamp is greater by more than one tick.",
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
			English: "A five-tuple is still in TIME_WAIT; the NAT gateway, when it assigns ports, reuses the same five-tuple within 2MSL and sends " +
				"a SYN.",
			Mark:    Imprecise,
			Short:   "Linux does not, while it remembers the connection (120 s, the TIME_WAIT 60 s): another client gets another port.",
			Shown:   Shown{Rule: "gateway-another-port", Evidence: []string{"port", "met", "answers"}},
			Symptom: "bare-ack",
			Truth: "A Linux gateway does not do this by default: it remembers a closed connection for 120 s, twice as long as the balancer's " +
				"TIME_WAIT, and gives another client another port. It happens if that timeout was shortened, if the same client comes back " +
				"from the same port, with a small port pool since Linux 6.5 (which evicts closing connections), and with gateways of other " +
				"makes. If the pool is exhausted and no connection can be evicted, the gateway drops the SYN (insert_failed), and the " +
				"balancer never sees it.",
			Since: "all; ports of closing connections are taken since 6.5",
			Rules: []string{"gateway-*", "defaults-nf-conntrack-tcp-timeout-time-wait-*"},
		},
		{
			Chinese: "在开启 tcp_timestamps 情况下，同时满足如下两个条件，会丢弃该 syn 包（因为开启了时间戳选项，认为是老包）。",
			English: "With tcp_timestamps on, the SYN is dropped when both of the following hold (it is taken for an old packet).",
			Mark:    Wrong,
			Short:   "The SYN is not dropped but answered, by a bare ACK; the client's RST then removes the TIME_WAIT, and its next SYN, some 10 ms later (1 s before Linux 5.6), gets in.",
			Shown:   Shown{Rule: "tuple-older-timestamp-answered", Evidence: []string{"answers", "reset", "outcome", "repeated after ms"}, File: "causes/time-wait-older-timestamp.yaml"},
			Symptom: "bare-ack",
			Truth: "The SYN is rejected, but not silently dropped: the TIME_WAIT answers with an ACK, the client answers that ACK with a RST, " +
				"the RST removes the TIME_WAIT, and the retransmitted SYN is accepted. The client retransmits its SYN after some 10 ms since " +
				"Linux 5.6, after 1 s from 3.1 to 5.5, and after 3 s before 3.1. connect fails only if this exchange is broken: by " +
				"tcp_rfc1337=1 on the balancer, or by a RST or ACK that is lost or not translated. Then each rejected SYN restarts the 60 s " +
				"timer.",
			Since: "all",
			Rules: []string{
				"tuple-older-timestamp-answered", "tuple-older-timestamp-answered-1s", "tuple-older-timestamp-blocked", "chance-many-hosts",
			},
		},
		{
			Chinese: "上次时间戳 > 本次时间戳。",
			English: "The last timestamp is greater than this one.",
			Mark:    Right,
			Short:   "Older by one tick is enough; a newer timestamp always gets in, and equal ones leave it to the sequence number.",
			Shown:   Shown{Rule: "tuple-newer-timestamp", Evidence: []string{"answers", "paws rejects", "outcome"}},
			Symptom: "bare-ack",
			Truth: "\"Greater\" means the sign of the 32 bit difference; one tick is enough. If the timestamps are equal, the sequence number " +
				"decides. A newer timestamp is accepted, whatever the sequence number is.",
			Since: "all",
			Rules: []string{"tuple-older-timestamp-answered", "tuple-newer-timestamp", "tuple-newer-number", "tuple-older-number-answered"},
		},
		{
			Chinese: "24天内收过包（时间戳字段是32位，Linux 默认1ms更新一次时间戳，24天会发生时间戳回绕）。",
			English: "A packet was received within 24 days (the field has 32 bits, Linux advances it by 1 each millisecond, so it wraps in 24 " +
				"days).",
			Mark:  Imprecise,
			Short: "In TIME_WAIT the condition is always true, since it lasts 60 s; a clock that wraps does no harm.",
			Shown: Shown{Rule: "tuple-newer-timestamp", Evidence: []string{"answers", "paws rejects", "outcome"}},
			Truth: "The condition is always true, because a TIME_WAIT lives only 60 s. (On an established connection the limit is 24 days up to " +
				"Linux 6.6, and 2147 s since then; after that time an older timestamp is accepted.) One tick is 1 ms since Linux 4.13, and " +
				"one timer interrupt (1 to 10 ms) before. The sign of a difference changes after 24.8 days, and the clock wraps after 49.7 " +
				"days; a wrap does no harm. With tcp_timestamps=1 the clock starts at a random offset anyway.",
			Since: "1 ms tick since 4.13",
			Rules: []string{"clock-*", "tuple-newer-timestamp", "tuple-wrapped-out-of-reach", "idle-*"},
		},
	}
}

// balancerClaims are about the reason why the balancer has turned timestamps off, and
// about the length of its TIME_WAITs.
func balancerClaims() []Claim {
	return []Claim{
		{
			Chinese: "在移动端该问题更为明显，因为客户端都是在运营商NAT网关下面共享有限的公网 IP，五元组还可能在2MSL内被复用，" +
				"不同客户端传来的时间戳不能保证是递增的。",
			English: "With mobile clients it is worse: they share few public addresses behind the carrier's NAT, five-tuples may be reused within " +
				"2MSL, and the timestamps of different clients are not guaranteed to increase.",
			Mark:    Right,
			Short:   "Between two hosts a SYN's timestamp is older in half of the cases, and since Linux 7.0 between two connections of one host, too.",
			Shown:   Shown{Rule: "share-clocks-of-hosts", Evidence: []string{"refused", "connected"}},
			Symptom: "bare-ack",
			Truth: "Between different hosts, a new timestamp is older or newer with equal probability. Since Linux 7.0, and in many stable " +
				"kernels, this is true even for a single host, because the random offset depends on the port again; tcp_timestamps=2 on the " +
				"clients removes the offset. Without an offset (with tcp_timestamps=2, and before Linux 4.10) timestamps are uptimes, and " +
				"nothing is random: the host that booted later always has the older timestamp.",
			Since: "all; for a single host since 7.0, and in stable kernels with commit 165573e41f2f",
			Rules: []string{
				"chance-many-hosts", "chance-many-hosts-one-clock", "chance-one-host-many-offsets", "chance-one-host-one-offset",
				"chance-one-host-one-clock", "clock-per-port", "clock-per-host", "uptimes-*", "share-clocks-*", "share-one-clock", "profile-short-timeout*",
			},
		},
		{
			Chinese: "负载均衡 HaProxy 关闭了 tcp_timestamps 原因，因为公网客户端经过 NAT 网关访问服务器，可能会存在问题",
			English: "That is why the balancer has turned tcp_timestamps off.",
			Mark:    Wrong,
			Short:   "It does not help: without timestamps the sequence number decides, and as many SYNs are refused at first.",
			Shown:   Shown{Rule: "share-numbers", Evidence: []string{"refused", "refused by the clock", "connected"}, File: "causes/time-wait-older-number.yaml"},
			Symptom: "bare-ack",
			Truth: "It does not help. Without timestamps the TIME_WAIT compares initial sequence numbers, which are just as random between " +
				"different clients: as many SYNs are rejected, with the same ACK. What is lost: a newer timestamp no longer gets a SYN " +
				"accepted, and no client can use tcp_tw_reuse.",
			Since: "all",
			Rules: []string{
				"chance-by-number", "share-numbers", "tuple-older-number-answered", "tuple-older-number-answered-1s", "tuple-older-number-unhindered",
				"tuple-older-number-blocked", "tuple-older-number-blocked-for-good", "tuple-newer-number", "exhaustion-no-timestamps",
			},
		},
		{
			Chinese: "timestamp和tw_recycle同时开启的条件下，timewait状态socket释放的超时时间和rto相关；否则，超时时间为TCP_TIMEWAIT_LEN（即60s）。",
			English: "With timestamps and tw_recycle both on, the length of TIME_WAIT depends on the RTO; otherwise it is TCP_TIMEWAIT_LEN, 60 s.",
			Mark:    Dated,
			Short:   "True up to Linux 4.11; since 4.12 it is 60 s.",
			Shown:   Shown{Rule: "length-over", Evidence: []string{"time-wait", "gone after"}},
			Truth: "True: it is 3.5 times the retransmission timeout, at least 0.7 s. But the quoted function, tcp_time_wait(), does not reject " +
				"the SYN; tcp_timewait_state_process() does.",
			Since: "up to 4.11; since 4.12 always 60 s",
			Rules: []string{"recycle-*", "length-*"},
		},
	}
}
