package document

import "slices"

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
		{"原因分析 3: a five-tuple that is used again", slices.Concat(rejectionClaims(), balancerClaims())},
		{"解决方案: the remedies", remedyClaims()},
		{"What the document leaves out", slices.Concat(omittedProxyClaims(), omittedKernelClaims())},
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
			Rules: []string{"exhaustion-reused", "exhaustion-reuse-off", "exhaustion-balancer-newer-timestamp"},
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
