package diagnose

// nothingLeaves are the causes by which no SYN is sent.
func nothingLeaves() []Cause {
	return []Cause{
		{
			ID:       "ports-exhausted",
			Why:      "The client's kernel found no free port in net.ipv4.ip_local_port_range, and sent nothing. connect(2) needs one that is free to this destination, bind(2) to port 0 one that is free to all (without IP_BIND_ADDRESS_NO_PORT).",
			Symptoms: []Symptom{Failed},
			Requires: []Condition{outcome("NoPort", "PortInUse"), nothingSent, rangeHeld},
			Do:       "Keep connections open and use them again; more destination addresses or ports; tcp_tw_reuse=1 with timestamps on both sides; let the server close first.",
			Cost:     "Each of them is local to the client, but the last: then TIME_WAIT is at the server.",
			Look:     "`ss -tan dst ADDRESS:PORT | wc -l` against `sysctl net.ipv4.ip_local_port_range`; connect(2) gives EADDRNOTAVAIL, or bind(2) EADDRINUSE, and tcpdump shows no SYN.",
			Source:   "__inet_hash_connect, inet_csk_find_open_port",
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
