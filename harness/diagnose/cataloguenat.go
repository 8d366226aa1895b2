package diagnose

// noPort counts the connections that could not be entered into the table: their translation
// was not unique.
const noPort = "Conntrack.insert_failed"

// fullTable are the causes by which a node has no room for another connection.
func fullTable() []Cause {
	return []Cause{
		{
			ID:         "snat-exhausted",
			Why:        "The gateway has no free port left for this destination, so it could not translate the SYNs, and dropped them.",
			Symptoms:   []Symptom{Failed, Late},
			Where:      []Condition{stopped},
			Requires:   []Condition{counted(noPort)},
			LookAlikes: []LookAlike{{"filtered", unruled("-j DROP")}},
			Do:         "More addresses or ports at the gateway; shorter conntrack timeouts of ended connections; fewer and longer connections; more destinations.",
			Cost:       "A port that is used again early can meet the server's TIME_WAIT.",
			Look:       "`conntrack -S`: insert_failed rises by the SYNs; tcpdump sees them come in and not go out.",
			Source:     "nf_nat_l4proto_unique_tuple, __nf_conntrack_confirm",
		},
		{
			ID:          "conntrack-full",
			Why:         "The node's table of connections is full (nf_conntrack_max), and none of them could be given up for a new one, so it dropped the SYNs.",
			Symptoms:    []Symptom{Failed, Late},
			Where:       []Condition{undelivered},
			Requires:    []Condition{tableDrops},
			Contradicts: []Condition{misled},
			LookAlikes:  []LookAlike{{"snat-exhausted", tableDrops}},
			Do:          "A larger net.netfilter.nf_conntrack_max; shorter timeouts of what fills the table; no tracking (NOTRACK) of what needs neither NAT nor state.",
			Cost:        "Memory for each connection; without tracking there is no NAT and no state for rules.",
			Look:        "`conntrack -C` against `sysctl net.netfilter.nf_conntrack_max`; `conntrack -S`: drop rises by the SYNs and insert_failed stands still; the kernel's log says \"nf_conntrack: table full, dropping packet\".",
			Source:      "nf_conntrack_alloc",
		},
	}
}

// oldEntry are the causes by which an entry is not what the rules, or the connection, would want.
func oldEntry() []Cause {
	return []Cause{
		{
			ID:       "nat-entry-older-than-rule",
			Why:      "The conntrack entry of this five-tuple was made before the DNAT rule was there, and each new SYN keeps it alive: no rule is asked again.",
			Symptoms: []Symptom{Failed, Late},
			Where:    []Condition{untranslated},
			Requires: []Condition{staleEntry, ruleUnasked},
			Do:       "Delete the entries of the destination whenever its rule changes (conntrack -D -d ADDRESS); a shorter nf_conntrack_tcp_timeout_syn_sent.",
			Cost:     "None: such an entry has no connection.",
			Look:     "`conntrack -L -p tcp --orig-src CLIENT`: SYN_SENT, UNREPLIED, and the reply direction still has the old address; the DNAT rule's packets stand still.",
			Source:   "nf_nat_inet_fn",
		},
		{
			ID:       "nat-stale-backend",
			Why:      "The conntrack entry of this five-tuple leads to a server that the DNAT rules no longer name, and each new SYN keeps it alive: no rule is asked again.",
			Symptoms: []Symptom{Failed, Late},
			Requires: []Condition{staleBackend, backendUnnamed, wentThere},
			Do:       "Delete the entries that lead to a server whenever it is taken away (conntrack -D --reply-src SERVER).",
			Cost:     "Connections that the server would still have served end, too.",
			Look:     "`conntrack -L -p tcp --orig-src CLIENT`: the reply direction has the old server; the packets of the DNAT rules stand still; tcpdump sees the SYNs go to the old server.",
			Source:   "nf_nat_inet_fn",
		},
		{
			ID:       "forgotten-client-speaks",
			Why:      "The connection was idle for longer than a NAT keeps its entry. The client's next data was not translated as before, so it reached somebody who knows no such connection.",
			Symptoms: []Symptom{Broken, Stalled},
			Requires: []Condition{forgotten, elsewhere(true)},
			Do:       "Keep-alive of the client below the NAT's timeout (TCP_KEEPIDLE and TCP_KEEPINTVL both); a longer nf_conntrack_tcp_timeout_established there; a pool that gives up idle connections earlier.",
			Cost:     "A packet per connection and interval; a longer timeout fills the table with dead entries.",
			Look:     "`conntrack -L --orig-src CLIENT` has no entry before the request, or another one; tcpdump behind the NAT sees the data with another source or destination than the handshake had.",
			Source:   "nf_conntrack_tcp_packet, nf_nat_inet_fn",
		},
		{
			ID:       "forgotten-server-speaks",
			Why:      "The connection was idle for longer than a NAT keeps its entry. The server's next data reached the NAT itself, which has no such connection and answered by a RST; the client hears nothing.",
			Symptoms: []Symptom{Broken, Stalled},
			Requires: []Condition{forgotten, elsewhere(false)},
			Do:       "Keep-alive, of either side, below the NAT's timeout; a longer nf_conntrack_tcp_timeout_established there.",
			Cost:     "A packet per connection and interval; a longer timeout fills the table with dead entries.",
			Look:     "`conntrack -L --orig-src CLIENT` has no entry; tcpdump at the NAT sees data of the server come in, a RST go back and nothing go to the client; `nstat TcpOutRsts` rises at the NAT.",
			Source:   "tcp_v4_rcv, no_tcp_socket",
		},
	}
}

// pastNAT are the causes by which packets of one direction are not translated as they ought to be.
func pastNAT() []Cause {
	return []Cause{
		{
			ID:       "nat-bypassed",
			Why:      "The answers did not come back through the node that had translated the SYNs. They reached the client from an address that it had not called, and its kernel answered them by RSTs.",
			Symptoms: []Symptom{Failed},
			Requires: []Condition{translated, foreignAnswers, resetForeign},
			Do:       "Let the answers pass the same node: a route at the server, or let that node masquerade such connections too.",
			Cost:     "With MASQUERADE the server does not see the clients' addresses.",
			Look:     "tcpdump at the client: a SYN-ACK from another address than the SYN went to, and a RST for it; `nstat TcpOutRsts` rises at the client.",
			Source:   "tcp_v4_rcv, no_tcp_socket",
		},
		{
			ID:       "hairpin-without-snat",
			Why:      "DNAT sent the SYNs back to their sender, with its own address as their source. Over IPv4 it drops them (martian source); over IPv6 it answers itself, and resets that.",
			Symptoms: []Symptom{Failed},
			Requires: []Condition{cameHome, ownSource},
			Do:       "Masquerade connections whose client is their own server (hairpin NAT).",
			Cost:     "The server sees the gateway's address.",
			Look:     "tcpdump at the client: its SYN leaves, and comes in again with its own source; `conntrack -L` at the gateway shows an entry whose source is its new destination.",
			Source:   "ip_route_input_slow, fib_validate_source",
		},
	}
}
