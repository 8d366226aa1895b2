package symptoms

// atTheClient are errors of connect(2) and bind(2) for which no packet is sent.
func atTheClient() []Symptom {
	return []Symptom{
		{
			ID:    "no-port",
			See:   "`EADDRNOTAVAIL` (Cannot assign requested address) from connect(2); no packet is sent",
			Means: "The client's own kernel has no free local port for this destination address and port.",
			Suspects: []Suspect{
				{
					Who: "TIME_WAITs of the client, because it closes first", Tell: "`ss -tan state time-wait dst ADDRESS` on the client is as long as `ip_local_port_range`",
					Shown: []Proof{rule("remedies-none"), cause("ports-exhausted")},
				},
				{
					Who: "connections that are open", Tell: "the same with `state established`",
					Shown: []Proof{scenario("ports-exhausted")},
				},
				{
					Who:   "the balancer's own ports towards its servers (its clients see 502, 503 or an empty answer)",
					Tell:  "`ss -tan state time-wait` on the balancer, with the servers as destination",
					Shown: []Proof{cause("lb-no-port"), incident("balancer-without-ports"), rule("proxyports-exhausted")},
				},
			},
			Do: []string{
				"Keep connections open and use them again.",
				"More destination addresses or ports, or a wider `net.ipv4.ip_local_port_range`: each multiplies the connections.",
				"`tcp_tw_reuse=1` on the host that connects, with timestamps on at **both** sides: each port serves once a second (`tcp_tw_reuse_delay`). With timestamps off on either side it does nothing.",
				"Let the other side close first (`Connection: close`), which moves the TIME_WAITs there.",
				"Close by RST (`SO_LINGER` with 0), after everything has been read.",
			},
			Often: "As soon as more than P connections in 60 s go to one destination: with the default P = 28232 that is 470 per second.",
		},
		{
			ID:    "port-in-use",
			See:   "`EADDRINUSE` (Address already in use) from bind(2) or listen(2)",
			Means: "Another socket of this host has the port; no packet is sent.",
			Suspects: []Suspect{
				{Who: "an outgoing connection, or its TIME_WAIT, that drew the port of a service", Tell: "`ss -tanp 'sport = :PORT'`", Shown: []Proof{cause("port-in-use"), incident("listener-meets-a-client"), incident("reserved-ports")}},
				{Who: "another listener, at :: for example", Tell: "`ss -tlnp 'sport = :PORT'`", Shown: []Proof{rule("dualstack-conflict-both")}},
			},
			Do: []string{
				"Keep the ports of services out of the range: `net.ipv4.ip_local_reserved_ports`.",
				"`SO_REUSEADDR` at the listener **and** at the sockets that connect.",
			},
			Often: "Each time the service starts while such a connection exists, if its port is in `ip_local_port_range`.",
		},
	}
}

// unanswered are SYNs to which nothing comes back.
func unanswered() []Symptom {
	return []Symptom{{
		ID:    "no-answer",
		See:   "SYN, and no answer: SYN again after 1 s, 2 s ..., at last `ETIMEDOUT`; or connected whole seconds late",
		Means: "Somebody drops the SYNs. Capture at the client, on both sides of the NAT, and at the server: the one that gets a SYN and lets none out is it. If the SYN leaves one node and does not reach the next, it is the link between them.",
		Suspects: []Suspect{
			{Who: "the NAT, which has no port left", Tell: "`conntrack -S` there: `insert_failed` rises by the SYNs; the server sees none", Shown: []Proof{cause("snat-exhausted"), rule("refusal-gateway"), incident("gateway-behind-a-gateway")}},
			{Who: "a NAT whose entry is older than its DNAT rule", Tell: "`conntrack -L --orig-src CLIENT`: `SYN_SENT [UNREPLIED]` without translation; another source port connects at once", Shown: []Proof{cause("nat-entry-older-than-rule"), incident("late-dnat-rule")}},
			{Who: "a full accept queue", Tell: "`ss -tln` at the server: Recv-Q above Send-Q; `nstat TcpExtListenOverflows` rises by the SYNs", Shown: []Proof{cause("accept-queue-full"), rule("refusal-queue")}},
			{Who: "a firewall rule", Tell: "the packets of a DROP rule rise by the SYNs (`iptables -nvL`, `nft list ruleset`)", Shown: []Proof{cause("filtered")}},
			{Who: "a full queue of half-open connections, with `tcp_syncookies=0`", Tell: "`nstat TcpExtTCPReqQFullDrop` rises by the SYNs", Shown: []Proof{cause("syn-queue-full")}},
			{Who: "a full table of connections (`nf_conntrack_max`)", Tell: "`conntrack -S` there: `drop` rises by the SYNs, and `insert_failed` stands still; the kernel's log says `nf_conntrack: table full, dropping packet`", Shown: []Proof{cause("conntrack-full")}},
			{Who: "a NAT whose entry leads to a server that the DNAT rules no longer name", Tell: "`conntrack -L --orig-src CLIENT`: the reply direction has the old server, and tcpdump sees the SYNs go there; another source port connects at once", Shown: []Proof{cause("nat-stale-backend")}},
			{Who: "a gateway that sends the SYN of a server back to that server (hairpin), with the source that it had", Tell: "tcpdump at the client: the SYN leaves, and comes in again with its own source; other clients connect", Shown: []Proof{cause("hairpin-without-snat"), incident("hairpin")}},
			{Who: "a node on the way that does not forward", Tell: "`sysctl net.ipv4.ip_forward` (IPv6: `net.ipv6.conf.all.forwarding`) is 0 there; `nstat IpInAddrErrors` (IPv6: `Ip6InAddrErrors`) rises by the SYNs", Shown: []Proof{cause("not-forwarding")}},
			{Who: "a link without carrier or with losses, or the queue before it", Tell: "`ip -s link` at the last node that has the SYNs: NO-CARRIER, or dropped packets under TX; or `tc -s qdisc` counts drops", Shown: []Proof{cause("lost-on-link"), scenario("lost-on-link-by-loss")}},
			{Who: "`rp_filter=1` at a node with two networks (IPv4 only)", Tell: "`nstat TcpExtIPReversePathFilter` rises by the SYNs; `ip route get CLIENT` names another interface than the one that they come in at", Shown: []Proof{cause("reverse-path"), incident("reverse-path")}},
			{Who: "a server without a route to the source of the SYNs", Tell: "`ip route get CLIENT` at the server says unreachable; `nstat IpOutNoRoutes` (IPv6: `Ip6OutNoRoutes`) rises by the SYNs", Shown: []Proof{cause("no-return-route")}},
			{Who: "a rule that drops INVALID, where packets of one direction take another way", Tell: "`conntrack -S`: `invalid` rises", Shown: []Proof{cause("one-direction-invalid"), incident("invalid-requests-unseen")}},
			{Who: "a server that has sent an ACK for this five-tuple in the last 500 ms (`tcp_invalid_ratelimit`)", Tell: "`nstat TcpExtTCPACKSkippedChallenge TcpExtTCPACKSkippedTimeWait` rises by the SYNs; earlier SYNs got a [bare ACK](#bare-ack)", Shown: []Proof{cause("ack-rate-limited"), scenario("ack-rate-limited-time-wait")}},
			{Who: "`tcp_tw_recycle=1` at the server", Tell: "`nstat TcpExtPAWSPassive` rises by the SYNs; only some of the clients behind one address", Kernels: "server before 4.12", Shown: []Proof{rule("recycle-older-dropped")}},
			{Who: "a connection that the server still has", Tell: "`ss -tan state established` at the server shows the five-tuple", Kernels: "server 3.8 to 3.17", Shown: []Proof{rule("tuple-established-ignored")}},
			{Who: "IPVS, when a client uses a port again", Tell: "connected exactly 1 s late; `net.ipv4.vs.conn_reuse_mode` is 1", Kernels: "balancer before 5.9; after a RST later, too", Shown: []Proof{incident("ipvs-port-reuse")}},
			{Who: "a middle box that drops SYNs with data (TCP Fast Open)", Tell: "the first SYN has data, and the second, 1 s later, has none and connects", Shown: []Proof{incident("fast-open-is-filtered")}},
			{Who: "a middle box that drops SYNs with the option of Multipath TCP", Tell: "tcpdump: the SYNs have the option `mptcp`; a later SYN without it is answered (`nstat MPTcpExtMPCapableSYNTXDrop` rises at the client), or plain TCP connects at once", Kernels: "client since 6.12: connected late; before: `ETIMEDOUT`", Shown: []Proof{cause("mptcp-blackholed")}},
		},
		Do: []string{
			"At the NAT: more addresses or ports, fewer and longer connections, more destinations. P ports that are kept for T seconds make at most P/T connections per second to one destination.",
			"After a change of DNAT rules: `conntrack -D -d ADDRESS`, or a short `nf_conntrack_tcp_timeout_syn_sent`. After a server was taken away: `conntrack -D --reply-src SERVER`.",
			"At the server: accept faster; a longer backlog and `net.core.somaxconn`; do not turn timestamps off, they have no part in it.",
			"On the way: change the rule; `net.ipv4.ip_forward=1`; look at both ends of the link (carrier, drops, queue).",
			"Routes: a route from the server to the client; `rp_filter=2` where the two directions take different ways.",
			"A full table: a larger `net.netfilter.nf_conntrack_max`, shorter timeouts of what fills it, or NOTRACK for what needs neither NAT nor state.",
			"A server that calls itself through its gateway: MASQUERADE there for these connections (hairpin NAT).",
			"After a skipped ACK: wait half a second, or connect from another port.",
			"`tcp_tw_recycle=0`.",
			"Let the options of TCP pass; Multipath TCP: `net.mptcp.syn_retrans_before_tcp_fallback` at the client says after how many SYNs its option is left out.",
		},
		Often: "A cloud's 64 ports for each machine, kept for 30 s: 64 at once, then 2.1 per second, to one destination; a NAT that keeps a port for all destinations, as RFC 5382 wants it, has them for all together. The client then gets `ETIMEDOUT` after about 130 s with default `tcp_syn_retries`.",
	}}
}

const fiveTupleDo = "Keep ports at the NAT for longer than 60 s after the end of a connection (Linux: `nf_conntrack_tcp_timeout_time_wait`, 120 s by default): then no SYN meets a TIME_WAIT."

// answered are SYNs that are answered, and not by a SYN-ACK.
func answered() []Symptom {
	return []Symptom{
		{
			ID: "bare-ack",
			See: "SYN, then a **bare ACK whose ack number is of another connection**, a RST from the client, and SYN again after 10 ms (1 s, 3 s), which " +
				"connects",
			Means: "The server still has the five-tuple: address and port of the client were used a short time ago. The ack number is what the old connection expects next. " +
				"The client's RST removes it. It comes after 10 ms with a client since Linux 5.6, after 1 s since 3.1, after 3 s before. A capture at the server has no RST if the NAT lost it.",
			Suspects: []Suspect{
				{Who: "TIME_WAIT, and the SYN's timestamp is older", Tell: "`nstat TcpExtPAWSTimewait` at the server rises by 1 (before 6.16 `TcpExtPAWSEstab`)", Shown: []Proof{cause("time-wait-older-timestamp"), rule("tuple-older-timestamp-answered"), rule("tuple-older-timestamp-answered-1s")}},
				{Who: "TIME_WAIT, without timestamps or with equal ones, and the SYN's sequence number is older", Tell: "**no counter**; `ss -tan state time-wait` had the five-tuple", Shown: []Proof{cause("time-wait-older-number"), rule("tuple-older-number-answered")}},
				{Who: "FIN_WAIT2: the server has closed, the client never did", Tell: "**no counter**; `ss -tan state fin-wait-2` had the five-tuple", Shown: []Proof{cause("fin-wait-2"), rule("tuple-fin-wait-2-answered")}},
				{Who: "ESTABLISHED: the client vanished, or rebooted", Tell: "`nstat TcpExtTCPSYNChallenge` rises by 1, and `TcpEstabResets` by 1 when the RST comes", Kernels: "server before 3.8 and since 3.18; between, no answer at all", Shown: []Proof{cause("half-open"), rule("tuple-established-challenged"), incident("reboot-with-the-same-port")}},
			},
			Do: []string{
				fiveTupleDo,
				"Let the client close first, or by RST: then the server has nothing left. For vanished clients: keep-alive at the server.",
				"Clients since Linux 5.6: the delay is 10 ms instead of 1 s.",
				"`tcp_rfc1337=0` at the server (the default), and no rule that drops the ACK or the RST: else 10 ms become [a connection that never comes](#never-connects).",
				"Do **not** turn timestamps off: as many SYNs are refused, for their sequence number.",
				"`tcp_timestamps=2` at clients that have one NAT address for themselves gives all their connections one clock.",
			},
			Often: "Half of the SYNs that meet a TIME_WAIT, with timestamps or without. A SYN meets one if its port is given again within 60 s of an end by the server: never while the NAT is Linux with its defaults, or the client closes first.",
		},
		{
			ID:    "never-connects",
			See:   "SYN, bare ACK (RST), SYN, bare ACK (RST) ... until `ETIMEDOUT`",
			Means: "As above, but the exchange that removes the old connection is broken. Each SYN that is refused for its timestamp starts the 60 s of the TIME_WAIT again.",
			Suspects: []Suspect{
				{Who: "`tcp_rfc1337=1` at the server", Tell: "the RST arrives at the server, and the TIME_WAIT stays", Shown: []Proof{cause("tw-unassassinated"), scenario("time-wait-rfc1337"), rule("tuple-older-timestamp-blocked"), rule("tuple-older-number-blocked")}},
				{Who: "the ACK does not reach the client, or its RST not the server", Tell: "capture at both ends: the ACK or the RST is at one only, or has the client's private address", Shown: []Proof{rule("tuple-older-timestamp-blocked"), rule("tuple-established-blocked"), rule("tuple-fin-wait-2-blocked")}},
				{Who: "two balancers that give one server the same five-tuple", Tell: "the ACK leaves the server towards the other balancer", Shown: []Proof{cause("five-tuple-collision"), incident("same-tuple-by-two-balancers")}},
				{Who: "a device that rebooted, with the same port and sequence number", Tell: "the ack number is just what the new SYN expects, so that it has no reason for a RST", Shown: []Proof{incident("reboot-with-the-same-port")}},
			},
			Do: []string{
				"`sysctl -w net.ipv4.tcp_rfc1337=0` at the server. The kernel reads it when the RST comes, so that it holds at once, for TIME_WAITs that are there as well ([shown](causes/time-wait-rfc1337.yaml)).",
				"Let ACK and RST pass. A Linux gateway of 5.18 to 6.0 does not translate that RST in some cases; update it.",
				fiveTupleDo,
				"SNAT at the balancers, or a port of its own at the server for each.",
			},
			Often: "Only where the server closes first and its clients share addresses behind a NAT that gives a port again within 60 s: then half of the SYNs that meet a TIME_WAIT. With timestamps it lasts as long as the client tries, each SYN starts the 60 s again; without, until the 60 s are over.",
		},
	}
}

// answeredOtherwise are SYNs that are answered by somebody who has no such connection.
func answeredOtherwise() []Symptom {
	return []Symptom{
		{
			ID:    "refused",
			See:   "`ECONNREFUSED` (Connection refused): the SYN is answered by a RST, or by an ICMP error",
			Means: "Somebody answered, so addresses and routes are right.",
			Suspects: []Suspect{
				{Who: "nobody listens at this address and port", Tell: "`ss -tln`; `nstat TcpOutRsts` rises at the server", Shown: []Proof{cause("no-listener"), incident("localhost-is-two-addresses")}},
				{Who: "a REJECT rule with tcp-reset", Tell: "`TcpOutRsts` stands still, and the rule's packets rise", Shown: []Proof{cause("rejected")}},
				{Who: "a REJECT rule without tcp-reset: its default is an ICMP error (port unreachable)", Tell: "there is no RST; tcpdump shows an ICMP \"destination unreachable\" whose sender is the node with the rule; `nstat IcmpOutDestUnreachs` (IPv6: `Icmp6OutDestUnreachs`) rises there", Shown: []Proof{cause("unreachable-told"), incident("reject-and-what-is-open")}},
				{Who: "FIN_WAIT2 of the same five-tuple, and the SYN is within its window", Tell: "the second attempt connects", Shown: []Proof{rule("tuple-fin-wait-2-refused")}},
			},
			Do:    []string{"Start the service, or look at the address that it listens at (IPv4, IPv6).", "Change the rule."},
			Often: "Each time, but FIN_WAIT2: once. An ICMP error refuses at once, or by the second SYN 1 s later, where it comes before connect(2) has let go of the socket, as on one machine.",
		},
		{
			ID:  "unreachable",
			See: "`ENETUNREACH` (Network is unreachable) or `EHOSTUNREACH` (No route to host) from connect(2)",
			Means: "A node on the way answered the SYN by an ICMP error, and the sender of that error is the node to look at. If no ICMP error came in, the error is from the client's own kernel: " +
				"it has no route, or nobody answered its ARP (IPv6: neighbour solicitation). If a firewall drops the ICMP error, you see [no answer](#no-answer) instead.",
			Suspects: []Suspect{
				{Who: "nodes on the way that send the SYN to each other until its TTL runs out", Tell: "`EHOSTUNREACH`; tcpdump on one of them: the same SYN again and again; `nstat IcmpOutTimeExcds` (IPv6: `Icmp6OutTimeExcds`) rises", Shown: []Proof{cause("ttl-exceeded")}},
				{Who: "a node on the way without a route to the destination", Tell: "`ENETUNREACH`; `ip route get ADDRESS` there says unreachable, and `nstat IpExtInNoRoutes` (IPv6: `Ip6InNoRoutes`) rises by the SYNs", Shown: []Proof{cause("no-route-at-hop")}},
				{Who: "a REJECT rule with another ICMP error than its default", Tell: "`EHOSTUNREACH` by `icmp-host-prohibited` and `icmp-admin-prohibited`, `ENETUNREACH` by `icmp-net-unreachable`; the rule's packets and `nstat IcmpOutDestUnreachs` rise there, and `IpExtInNoRoutes` stands still", Shown: []Proof{cause("unreachable-told")}},
			},
			Do:    []string{"A route at the node that sent the ICMP error.", "Change the rule."},
			Often: "Each time, until there is a route or the rule is changed.",
		},
		{
			ID:    "other-address",
			See:   "SYN, and a **SYN-ACK from another address** than the SYN went to; a RST from the client, SYN again, at last `ETIMEDOUT`",
			Means: "A NAT has translated the SYN, and the answer did not come back through it. The RST does not say that the client has given up: it still waits for the address that it called.",
			Suspects: []Suspect{
				{Who: "a server whose answers take another way than through the NAT or the balancer", Tell: "tcpdump at the NAT: the SYNs go out to the server, and no SYN-ACK comes in; `nstat TcpOutRsts` rises at the client", Shown: []Proof{cause("nat-bypassed"), incident("answer-without-the-gateway")}},
			},
			Do: []string{
				"A route at the server by which the answers pass the same node.",
				"MASQUERADE at the NAT for these connections too; then the server does not see the addresses of the clients.",
			},
			Often: "Each time, for clients to whom the server has another way.",
		},
	}
}
