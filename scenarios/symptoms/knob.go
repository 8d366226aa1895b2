package symptoms

// Knobs lists the sysctls, in the order in which people ask for them.
func Knobs() []Knob {
	return []Knob{
		{
			"net.ipv4.tcp_tw_reuse=1",
			"Safe, behind a NAT, too: connect takes only an own TIME_WAIT whose connection had timestamps, and its SYN has a newer timestamp, which the server accepts; useless where the server closes first, or has timestamps off.",
			[]Proof{rule("exhaustion-reused"), rule("exhaustion-no-timestamps"), incident("reuse-on-a-server")},
		},
		{
			"net.ipv4.tcp_timestamps=0",
			"Not helpful and not free: as many SYNs are refused as before, and no client of this host can use tcp_tw_reuse.",
			[]Proof{rule("share-numbers"), rule("chance-by-number"), rule("exhaustion-no-timestamps")},
		},
		{
			"net.ipv4.tcp_timestamps=2",
			"Safe, but it shows the uptime: all connections of the host have one clock, so that behind a NAT address of its own none of its SYNs is refused for an older timestamp.",
			[]Proof{rule("chance-one-host-one-clock"), rule("clock-uptime")},
		},
		{
			"net.ipv4.tcp_tw_recycle=1",
			"Never on a server with clients behind NAT: up to 4.11 it drops their SYNs without a word; since 4.12 it does not exist, and setting it is an error.",
			[]Proof{rule("recycle-older-dropped"), rule("defaults-tcp-tw-recycle-gone")},
		},
		{
			"net.ipv4.ip_local_port_range=1024 65535",
			"Safe for connections, and the best remedy against EADDRNOTAVAIL; but reserve the ports of services (ip_local_reserved_ports), or a restart finds its port taken.",
			[]Proof{rule("remedies-more"), incident("listener-meets-a-client"), incident("reserved-port")},
		},
		{
			"net.ipv4.tcp_max_tw_buckets",
			"Leave it: a smaller one refuses nobody, but connections that find the table full lose the protection of TIME_WAIT; \"time wait bucket table overflow\" in the log is no refusal.",
			[]Proof{rule("exhaustion-overflow"), incident("too-many-time-waits")},
		},
		{
			"net.ipv4.tcp_fin_timeout=15",
			"Harmless and useless against TIME_WAIT, which is 60 s whatever it says; it only shortens FIN_WAIT2 of connections that the peer never closes.",
			[]Proof{rule("length-fin-timeout-5"), rule("length-over-port-free")},
		},
		{
			"net.ipv4.tcp_rfc1337=1",
			"Not safe on a server behind NAT: a delay of 10 ms becomes ETIMEDOUT, because the RST that would end the TIME_WAIT is ignored; 0 helps at once, TIME_WAITs that are there included.",
			[]Proof{scenario("time-wait-rfc1337"), rule("tuple-older-timestamp-blocked"), rule("tuple-older-number-blocked")},
		},
		{
			"nf_conntrack_tcp_timeout_time_wait below 60 (gateway)",
			"Not safe: the gateway gives ports again that the server has in TIME_WAIT, and half of those SYNs are refused at first; 65 or more is safe.",
			[]Proof{rule("gateway-expired-older-timestamp"), rule("share-clocks-of-hosts"), rule("share-outlived")},
		},
		{
			"nf_conntrack_tcp_timeout_close_wait below 60 (gateway)",
			"Not safe for connections of which one side has closed: the entry is gone before the answer comes, and the gateway resets it.",
			[]Proof{incident("half-closed-too-long")},
		},
		{
			"nf_conntrack_tcp_timeout_established (gateway)",
			"Safe as long as it is longer than connections are idle, keep-alive included; nobody is told when an entry expires.",
			[]Proof{incident("idle-longer-than-the-nat")},
		},
		{
			"nf_conntrack_tcp_timeout_syn_sent=1 (gateway)",
			"A remedy where DNAT rules come late, because the entry of a SYN that went nowhere expires before the client's next one; but each answer must come within that second.",
			[]Proof{incident("late-dnat-rule-short-timeout")},
		},
	}
}
