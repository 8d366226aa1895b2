package diagnose

import "slices"

// Catalogue lists all causes. The order means nothing: when two of them are proved for one
// attempt, the catalogue is wrong.
func Catalogue() []Cause {
	return slices.Concat(nothingLeaves(), onTheWay(), atTheServer(), ofEarlierConnection(), afterConnected())
}

// Find finds a cause by its ID.
func Find(id string) (Cause, bool) {
	all := Catalogue()
	i := slices.IndexFunc(all, func(c Cause) bool { return c.ID == id })
	if i < 0 {
		return Cause{}, false
	}
	return all[i], true
}

// IDs lists the IDs of all causes.
func IDs() (all []string) {
	for _, c := range Catalogue() {
		all = append(all, c.ID)
	}
	return all
}

// nothingLeaves are the causes by which no SYN is sent.
func nothingLeaves() []Cause {
	return []Cause{
		{
			ID:       "ports-exhausted",
			Why:      "The client's kernel found no free port to this destination in net.ipv4.ip_local_port_range, and sent nothing.",
			Symptoms: []Symptom{Failed},
			Requires: []Condition{outcome("NoPort"), nothingSent, rangeHeld},
			Do:       "Keep connections open and use them again; more destination addresses or ports; tcp_tw_reuse=1 with timestamps on both sides; let the server close first.",
			Cost:     "Each of them is local to the client, but the last: then TIME_WAIT is at the server.",
			Look:     "`ss -tan dst ADDRESS:PORT | wc -l` against `sysctl net.ipv4.ip_local_port_range`; connect(2) gives EADDRNOTAVAIL, and tcpdump shows no SYN.",
			Source:   "__inet_hash_connect",
		},
		{
			ID:       "port-in-use",
			Why:      "Another socket has the port that was asked for, so bind(2) failed, and nothing was sent.",
			Symptoms: []Symptom{Failed},
			Requires: []Condition{outcome("PortInUse"), nothingSent, held},
			Do:       "Leave the port to the kernel, or set SO_REUSEADDR on both sockets; keep ports that services need out of the range (ip_local_reserved_ports).",
			Cost:     "None.",
			Look:     "`ss -tanp 'sport = :PORT'` shows the socket that has it, in TIME_WAIT too; bind(2) gives EADDRINUSE.",
			Source:   "inet_csk_get_port",
		},
		{
			ID:       "connected-to-itself",
			Why:      "The kernel drew the destination's own port as the source, so the SYN met the socket that had sent it: a simultaneous open with itself (RFC 9293, section 3.5).",
			Symptoms: []Symptom{Broken},
			Requires: []Condition{toItself, not(listens)},
			Do:       "Reserve the port of each local service (net.ipv4.ip_local_reserved_ports), or compare the two ends after connect.",
			Cost:     "A port less for other connections.",
			Look:     "`ss -tan` shows a connection whose two ends are the same.",
			Source:   "tcp_rcv_synsent_state_process",
		},
	}
}

// onTheWay are the causes that end a packet between client and server.
func onTheWay() []Cause {
	const noPort = "Conntrack.insert_failed"
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
			ID:         "snat-exhausted",
			Why:        "The gateway has no free port left for this destination, so it could not translate the SYNs, and dropped them.",
			Symptoms:   []Symptom{Failed, Late},
			Requires:   []Condition{stopped, counted(noPort)},
			LookAlikes: []LookAlike{{"filtered", unruled("-j DROP")}},
			Do:         "More addresses or ports at the gateway; shorter conntrack timeouts of ended connections; fewer and longer connections; more destinations.",
			Cost:       "A port that is used again early can meet the server's TIME_WAIT.",
			Look:       "`conntrack -S`: insert_failed rises by the SYNs; tcpdump sees them come in and not go out.",
			Source:     "nf_nat_l4proto_unique_tuple, __nf_conntrack_confirm",
		},
		{
			ID:       "nat-entry-older-than-rule",
			Why:      "The conntrack entry of this five-tuple was made before the DNAT rule was there, and each new SYN keeps it alive: no rule is asked again.",
			Symptoms: []Symptom{Failed, Late},
			Requires: []Condition{staleEntry, ruleUnasked},
			Do:       "Delete the entries of the destination whenever its rule changes (conntrack -D -d ADDRESS); a shorter nf_conntrack_tcp_timeout_syn_sent.",
			Cost:     "None: such an entry has no connection.",
			Look:     "`conntrack -L -p tcp --orig-src CLIENT`: SYN_SENT, UNREPLIED, and the reply direction still has the old address; the DNAT rule's packets stand still.",
			Source:   "nf_nat_inet_fn",
		},
		{
			ID:       "one-direction-invalid",
			Why:      "A node on the way sees only one direction of the connection, so conntrack calls its packets INVALID, and a rule drops those.",
			Symptoms: []Symptom{Failed, Broken},
			Requires: []Condition{invalid, oneWay},
			Do:       "Let both directions pass that node, or do not track such connections (NOTRACK), or do not drop INVALID there. nf_conntrack_tcp_be_liberal changes nothing: it is about windows.",
			Cost:     "Without tracking there is no NAT and no state for rules.",
			Look:     "`conntrack -S`: invalid rises, and so do the packets of the rule with INVALID; tcpdump sees packets of one direction only.",
			Source:   "nf_conntrack_tcp_packet",
		},
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
	}
}
