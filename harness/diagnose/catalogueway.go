package diagnose

// byRules are the causes by which a rule ends a packet.
func byRules() []Cause {
	return []Cause{
		{
			ID:         "filtered",
			Why:        "A rule of the node where they ended dropped the SYNs.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{endedAtOne, ruled("-j DROP")},
			LookAlikes: []LookAlike{{"snat-exhausted", still(noPort)}, {"accept-queue-full", still("TcpExt.ListenOverflows")}},
			Do:         "Change that rule.",
			Cost:       "What the rule was there for.",
			Look:       "`iptables -nvL` or `nft list ruleset` with counters, before and after: the rule's packets rise by the SYNs; tcpdump sees them come in and not go out.",
			Source:     "nft_do_chain, ipt_do_table",
		},
		{
			ID:         "rejected",
			Why:        "A rule answered the SYN by a RST (REJECT with tcp-reset): no socket was asked.",
			Symptoms:   []Symptom{Failed},
			Requires:   []Condition{outcome("Refused"), ruled("-j REJECT"), wasReset},
			LookAlikes: []LookAlike{{"no-listener", still("Tcp.OutRsts")}},
			Do:         "Change that rule.",
			Cost:       "What the rule was there for.",
			Look:       "A RST, and `nstat -az TcpOutRsts` stands still at the node that sent it; the REJECT rule's packets rise.",
			Source:     "nf_send_reset",
		},
		{
			ID:         "unreachable-told",
			Why:        "A rule answered the SYNs by an ICMP error (REJECT): no socket was asked.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{endedAtOne, ruled("-j REJECT", "--reject-with icmp"), countedByVersion("Icmp.OutDestUnreachs", "Icmp6.OutDestUnreachs")},
			LookAlikes: []LookAlike{{"no-route-at-hop", stillByVersion("IpExt.InNoRoutes", "Ip6.InNoRoutes")}},
			Do:         "Change that rule.",
			Cost:       "What the rule was there for.",
			Look:       "tcpdump: an ICMP \"destination unreachable\" for the SYN, whose sender is the node with the rule; the REJECT rule's packets rise, and so does `nstat IcmpOutDestUnreachs` there.",
			Source:     "nf_send_unreach, tcp_v4_err",
		},
		{
			ID:          "one-direction-invalid",
			Why:         "A node on the way sees only one direction of the connection, so conntrack calls its packets INVALID, and a rule drops those.",
			Symptoms:    []Symptom{Failed, Broken, Stalled},
			Requires:    []Condition{invalid, oneWay},
			Contradicts: []Condition{forgotten},
			Do:          "Let both directions pass that node, or do not track such connections (NOTRACK), or do not drop INVALID there. nf_conntrack_tcp_be_liberal changes nothing: it is about windows.",
			Cost:        "Without tracking there is no NAT and no state for rules.",
			Look:        "`conntrack -S`: invalid rises, and so do the packets of the rule with INVALID; tcpdump sees packets of one direction only.",
			Source:      "nf_conntrack_tcp_packet",
		},
	}
}

// byRoutes are the causes by which a packet ends because of routes or links.
func byRoutes() []Cause {
	return []Cause{
		{
			ID:         "link-down",
			Why:        "The link over which the SYNs were to leave has no carrier, so the node dropped them.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{stopped, dropped("QDISC_DROP")},
			LookAlikes: []LookAlike{{"filtered", unruled("-j DROP")}, {"snat-exhausted", still(noPort)}},
			Do:         "Look at both ends of that link.",
			Cost:       "None.",
			Look:       "`ip -s link`: NO-CARRIER, and dropped packets under TX.",
			Source:     "noop_enqueue, __dev_queue_xmit",
		},
		{
			ID:         "not-forwarding",
			Why:        "The SYNs came into a node that is not their destination and does not forward, so it dropped them without a word.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{stopped, countedByVersion("Ip.InAddrErrors", "Ip6.InAddrErrors")},
			LookAlikes: []LookAlike{{"filtered", unruled("-j DROP")}, {"nat-entry-older-than-rule", not(all(staleEntry, ruleUnasked))}},
			Do:         "net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1) where it is to forward; else a route of the sender that does not lead there.",
			Cost:       "A node that forwards needs rules about what it forwards.",
			Look:       "`sysctl net.ipv4.ip_forward`; `nstat IpInAddrErrors` rises by the SYNs; tcpdump sees them come in and not go out.",
			Source:     "ip_error, ip6_forward",
		},
		{
			ID:         "no-route-at-hop",
			Why:        "A node on the way has no route to the destination, dropped the SYNs and told the client (ICMP network unreachable).",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{stopped, countedByVersion("IpExt.InNoRoutes", "Ip6.InNoRoutes")},
			LookAlikes: []LookAlike{{"unreachable-told", unruled("-j REJECT")}, {"filtered", unruled("-j DROP")}},
			Do:         "A route at that node.",
			Cost:       "None.",
			Look:       "`ip route get ADDRESS` at that node says unreachable; `nstat IpExtInNoRoutes` rises by the SYNs; the client's connect(2) is ENETUNREACH, where the ICMP reaches it.",
			Source:     "ip_error, ip6_pkt_discard",
		},
		{
			ID:         "reverse-path",
			Why:        "The node would answer the SYN's source over another interface than the one that the SYN came in at, so rp_filter=1 dropped it (strict mode, RFC 3704).",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{endedAtOne, counted("TcpExt.IPReversePathFilter")},
			LookAlikes: []LookAlike{{"no-return-route", still("Ip.OutNoRoutes")}, {"filtered", unruled("-j DROP")}},
			Do:         "rp_filter=2 (loose) where routes are not symmetric, or routes that are.",
			Cost:       "Loose mode lets in forged sources that have any route.",
			Look:       "`nstat TcpExtIPReversePathFilter` rises by the SYNs; `ip route get CLIENT` names another interface than that at which tcpdump sees them.",
			Source:     "ip_rcv_finish_core, fib_validate_source",
		},
		{
			ID:       "mtu-black-hole",
			Why:      "A node on the way dropped segments that are too large for the next link, and its ICMP did not reach the sender, which goes on sending them at the same size.",
			Symptoms: []Symptom{Broken, Stalled},
			Requires: []Condition{largestStopped, tooBig, notTold},
			Do:       "Let ICMP \"fragmentation needed\" (packet too big) pass; else clamp the MSS on the way (TCPMSS --clamp-mss-to-pmtu), or net.ipv4.tcp_mtu_probing=1 at the sender.",
			Cost:     "A clamp is for TCP only; probing waits for some timeouts first.",
			Look:     "tcpdump: small segments are acknowledged, the same large one is sent again and again; `nstat IpFragFails Ip6InTooBigErrors` rises at the node before the small link.",
			Source:   "ip_forward, ip6_forward",
		},
	}
}
