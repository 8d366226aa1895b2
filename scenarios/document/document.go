package document

import "slices"

// Section is a part of the document with its claims.
type Section struct {
	Title  string
	Claims []Claim
}

// Document lists what the document says, sentence by sentence, and at the end what
// it leaves out.
func Document() []Section {
	return []Section{
		{"背景: background", backgroundClaims()},
		{"Linux 参数介绍: the sysctls", slices.Concat(sysctlClaims(), reuseClaims())},
		{"原因分析: why there are too many TIME_WAITs", causeClaims()},
		{"原因分析 2: tcp_tw_recycle behind NAT", recycleClaims()},
		{"原因分析 3: a five-tuple that is used again", slices.Concat(rejectionClaims(), balancerClaims())},
		{"解决方案: the remedies", remedyClaims()},
		{"What the document leaves out", slices.Concat(omittedProxyClaims(), omittedKernelClaims(), omittedSysctlClaims())},
	}
}

func backgroundClaims() []Claim {
	return []Claim{{
		Chinese: "在压测负载均衡 HaProxy 时，会遇到一些客户端 timewait 过多，端口被快速占满，导致 connect 失败的问题。",
		English: "Under load, clients get so many TIME_WAITs that their ports are used up and connect fails.",
		Mark:    Right,
		Short:   "A client that closes first has one TIME_WAIT for each port; without a free port connect fails at once with EADDRNOTAVAIL, and no packet leaves.",
		Shown:   Shown{Rule: "remedies-none", Evidence: []string{"connected", "no port", "client TIME_WAIT"}, File: "causes/ports-exhausted.yaml"},
		Symptom: "no-port",
		Truth: "When no local port is free, connect fails with EADDRNOTAVAIL and sends no SYN. A local port is used up for one destination " +
			"address and port only: for another port of the same balancer, the same local ports can be used at once.",
		Since: "all",
		Rules: []string{"remedies-none", "remedies-more"},
	}}
}

func sysctlClaims() []Claim {
	return []Claim{
		{
			Chinese: "tcp_timestamps ： 是否开启 tcp timestamps 选项，缺省是开启状态",
			English: "tcp_timestamps: whether the TCP timestamps option is on; by default it is.",
			Mark:    Right,
			Short:   "Timestamps are on by default (1), and 2 means on without the random offset.",
			Shown:   Shown{Rule: "defaults-tcp-timestamps-default", Evidence: []string{"value"}},
			Truth: "The default is 1. Since Linux 4.10 there is also the value 2: timestamps are on, but without the random offset that hides " +
				"the uptime.",
			Since: "all; since 4.13 each network namespace has its own value",
			Rules: []string{"defaults-tcp-timestamps-*", "defaults-own", "defaults-exists", "defaults-shared", "clock-uptime"},
		},
		{
			Chinese: "timestamps 是在 tcp 三次握手过程中协商的，任意一方不支持，该连接就不会使用 timestamps 选项。",
			English: "Timestamps are negotiated in the handshake; if one side does not support them, the connection does not use them.",
			Mark:    Right,
			Short:   "Both sides must have them on; which of the two connects does not matter.",
			Shown:   Shown{Rule: "negotiation-not-taken", Evidence: []string{"option in the SYN", "option in the SYN-ACK", "in use"}},
			Truth: "The SYN has the option if tcp_timestamps is not 0 on the side that connects. The SYN-ACK has it if tcp_timestamps is not 0 " +
				"on both sides; only then do both sides use timestamps. It does not matter which side connects.",
			Since: "all",
			Rules: []string{"negotiation-agreed", "negotiation-not-offered", "negotiation-not-taken", "clock-none"},
		},
		{
			Chinese: "tcp_tw_recycle ： 是否开启tcp_tw_recycle选项，缺省是关闭状态且关联tcp_timestamps选项，" +
				"如果需要开启tcp_tw_recycle选项，必须先开启tcp_timestamps选项。",
			English: "tcp_tw_recycle is off by default and depends on tcp_timestamps, which has to be turned on first.",
			Mark:    Dated,
			Short:   "The sysctl is gone since Linux 4.12.",
			Shown:   Shown{Rule: "defaults-tcp-tw-recycle-gone", Evidence: []string{"file"}},
			Truth: "Linux 4.12 removed this sysctl: setting it is an error. Before, the two sysctls could be set in any order, but " +
				"tcp_tw_recycle had an effect only on connections with timestamps.",
			Since: "up to 4.11",
			Rules: []string{"defaults-tcp-tw-recycle-*", "recycle-*"},
		},
		{
			Chinese: "它用来快速回收TIME_WAIT连接，不过如果在NAT环境下会引发问题。",
			English: "It reclaims TIME_WAITs quickly, but causes problems behind NAT.",
			Mark:    Dated,
			Short:   "Up to Linux 4.11 only the clients with the newest clock behind one address got in; since 4.12 there is no such sysctl.",
			Shown:   Shown{Rule: "recycle-gone-balancer", Evidence: []string{"tcp_tw_recycle", "time-wait", "outcome"}},
			Symptom: "no-answer",
			Truth: "On kernels that had it, a TIME_WAIT lasted 3.5 retransmission timeouts instead of 60 s. A host that closed first remembered " +
				"the last timestamp of each peer address for 60 s, and silently dropped SYNs with older timestamps. Of all clients behind one " +
				"address, only those with the newest clock could connect. That is why it was removed.",
			Since: "up to 4.11",
			Rules: []string{"recycle-*"},
		},
	}
}

// reuseClaims are about tcp_tw_reuse.
func reuseClaims() []Claim {
	return []Claim{
		{
			Chinese: "tcp_tw_reuse ： 默认值2表示仅环回流量开启，0表示关闭，1表示开启",
			English: "tcp_tw_reuse: the default 2 means loopback traffic only, 0 off, 1 on.",
			Mark:    Imprecise,
			Short:   "2 is the default since Linux 4.19 and means 127.0.0.0/8, ::1 and lo; towards everything else it is off.",
			Shown:   Shown{Rule: "exhaustion-reuse-loopback-only", Evidence: []string{"outcome", "syns", "client TcpExt.TWRecycled"}},
			Symptom: "no-port",
			Truth: "The value 2 exists since Linux 4.19 and is the default since then; before, the default was 0. \"Loopback\" means that one " +
				"end has a loopback address (127.0.0.0/8, ::1, or 127.0.0.1 for an IPv6 socket), or that the socket is bound to lo. A connect to another address of the host itself also goes " +
				"through lo, but does not count as loopback.",
			Since: "since 4.19; since 4.10 each network namespace has its own value",
			Rules: []string{"defaults-tcp-tw-reuse-*", "exhaustion-reuse-loopback-only", "exhaustion-reuse-off", "exhaustion-reused"},
		},
		{
			Chinese: "它用于复用TIME_WAIT连接，通常认为tcp_tw_reuse比tcp_tw_recycle更安全一些",
			English: "It reuses TIME_WAIT connections, and is usually thought to be safer than tcp_tw_recycle.",
			Mark:    Right,
			Short:   "It lets connect take the port of an own TIME_WAIT, removes none, does nothing on the side that accepts, and the peer accepts the new SYN: on connections with timestamps it is safe.",
			Shown:   Shown{Rule: "exhaustion-reused", Evidence: []string{"client TcpExt.TWRecycled", "outcome", "answers"}},
			Symptom: "no-port",
			Truth: "With it, connect may take the port of its own TIME_WAIT towards the same destination. On the side that accepts connections " +
				"it does nothing. It removes no TIME_WAITs.",
			Since: "all",
			Rules: []string{"exhaustion-reused", "exhaustion-reuse-off", "exhaustion-balancer-newer-timestamp"},
		},
		{
			Chinese: "一来TIME_WAIT创建时间必须超过一秒才可能会被复用",
			English: "First, a TIME_WAIT must be older than one second before it may be reused.",
			Mark:    Imprecise,
			Short:   "It is one second by default since Linux 6.14 (tcp_tw_reuse_delay), 0 to 1 s from 4.19 to 6.13, 1 to 2 s before.",
			Shown:   Shown{Rule: "exhaustion-too-young", Evidence: []string{"outcome", "syns", "client time-wait after"}},
			Symptom: "no-port",
			Truth: "Since Linux 6.14 the minimum age is tcp_tw_reuse_delay, 1000 ms by default. Before 6.14 the age counts from the last " +
				"timestamp received: from 4.19 to 6.13 one new second of the clock must begin (0 to 1 s), before 4.19 two (1 to 2 s). A port " +
				"that was bound explicitly with SO_REUSEADDR is reused at once.",
			Since: "tcp_tw_reuse_delay since 6.14; whole seconds since 4.19, and one more before",
			Rules: []string{"exhaustion-too-young", "exhaustion-too-young-1s", "exhaustion-reused", "exhaustion-bind-reuses", "defaults-tcp-tw-reuse-delay-*"},
		},
		{
			Chinese: "二来只有连接的时间戳是递增的时候才会被复用。",
			English: "Second, it is reused only when the connection's timestamps increase.",
			Mark:    Wrong,
			Short:   "No timestamps are compared: the old connection must only have had them.",
			Shown:   Shown{Rule: "exhaustion-reused", Evidence: []string{"echo", "answers", "paws rejects"}},
			Symptom: "no-port",
			Truth: "The kernel compares no timestamps. It only requires that the old connection had timestamps. The new SYN then has the next " +
				"timestamp of the same clock, and a sequence number beyond the old connection's, so the peer accepts it.",
			Since: "all",
			Rules: []string{"exhaustion-reused", "exhaustion-no-timestamps"},
		},
	}
}
