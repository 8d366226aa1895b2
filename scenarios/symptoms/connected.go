package symptoms

// afterConnected are connections that fail after the handshake.
func afterConnected() []Symptom {
	return []Symptom{
		{
			ID:    "hangs",
			See:   "Connected, then nothing: the client waits, or gets `ETIMEDOUT` at last",
			Means: "The handshake is small, and proves little: what follows is larger, later, or goes another way.",
			Suspects: []Suspect{
				{Who: "a smaller MTU on the way, and ICMP is filtered", Tell: "small requests work; the same large segment again and again; `nstat IpFragFails` (IPv6: `Ip6InTooBigErrors`) rises at the node before the small link", Shown: []Proof{cause("mtu-black-hole"), incident("mtu-black-hole")}},
				{Who: "the accept queue was full, with SYN cookies: the server knows nothing of the connection", Tell: "`nstat TcpExtListenOverflows TcpExtSyncookiesRecv` at the server; `ss` shows ESTABLISHED at the client only", Shown: []Proof{cause("accept-queue-ghost"), incident("accept-queue-ghosts")}},
				{Who: "a rule that drops INVALID, where the answers take another way", Tell: "`conntrack -S`: `invalid` rises; `nf_conntrack_tcp_be_liberal` changes nothing", Shown: []Proof{cause("one-direction-invalid"), incident("invalid-one-way")}},
				{Who: "the peer's process, which has read all and sends nothing", Tell: "`ss -tan` at both ends: ESTABLISHED, and Recv-Q and Send-Q are 0", Shown: []Proof{cause("peer-silent")}},
				{Who: "the peer's process, which does not read", Tell: "`ss -tan` at the peer: Recv-Q is not 0 and does not fall; when its window is 0, `ss -tano` at the sender shows the timer `persist`", Shown: []Proof{cause("peer-stalled")}},
				{Who: "a rule that drops INVALID, at a node that has missed acknowledgements", Tell: "tcpdump: the first segments pass that node, and later ones stop there; `conntrack -S`: `invalid` rises; `nf_conntrack_tcp_be_liberal=1` helps", Shown: []Proof{cause("out-of-window")}},
				{Who: "the peer, or the way to it, is gone, with data under way", Tell: "retransmissions without an answer, for about 15 minutes (`tcp_retries2`); keep-alive does not notice", Shown: []Proof{cause("unacknowledged"), incident("peer-is-gone")}},
				{Who: "timestamps that went back: a machine that was moved or restored, or a middle box with timestamps of its own", Tell: "each segment gets an ACK, of the same number, and is repeated; `nstat TcpExtPAWSEstab` rises at the other end", Shown: []Proof{cause("timestamps-back")}},
				{Who: "the same on an idle connection, with keep-alive", Tell: "read gives `ETIMEDOUT`; tcpdump: empty segments, `TCP_KEEPINTVL` apart, without an answer; `nstat TcpExtTCPKeepAlive` rises", Shown: []Proof{cause("keepalive-expired")}},
				{Who: "a REJECT rule with an ICMP error, newer than the connection", Tell: "the rule's packets rise by the repeated segments; new connections are [refused](#refused)", Shown: []Proof{incident("reject-and-what-is-open")}},
				{Who: "a NAT that has forgotten an idle connection, when the server speaks first", Tell: "tcpdump at the NAT: data of the server comes in, a RST goes back to it, and nothing goes to the client; `nstat TcpOutRsts` rises there", Shown: []Proof{cause("forgotten-server-speaks")}},
				{Who: "the NAT has forgotten a connection of which one side has closed", Tell: "the same, and the client waits in FIN_WAIT2", Shown: []Proof{incident("half-closed-too-long")}},
				{Who: "a server was taken away from IPVS", Tell: "`ipvsadm -L` no longer has it; nobody was told", Shown: []Proof{incident("ipvs-server-taken-away")}},
			},
			Do: []string{
				"Let ICMP \"fragmentation needed\" and \"packet too big\" pass, or clamp the MSS, or `tcp_mtu_probing=1`.",
				"`TCP_USER_TIMEOUT` in the client: it also works with data under way, unlike keep-alive.",
				"Accept faster, or a longer backlog.",
				"Look what the peer's process waits for (`ss -tanp` names it); a deadline in the program that reads.",
				"Let both directions pass the node that tracks connections, or do not drop INVALID there; `nf_conntrack_tcp_be_liberal=1` helps only where acknowledgements alone are missed.",
				"Keep-alive with an interval (`TCP_KEEPINTVL`) below the timeout of the NAT, not only its idle time.",
			},
			Often: "Each time, where the cause is on the way; with a full accept queue, for those clients whose last ACK finds it full.",
		},
		{
			ID:    "reset",
			See:   "`ECONNRESET` (Connection reset by peer), `EPIPE`, or the end of the connection where an answer should be",
			Means: "The other side, or somebody in its place, no longer has the connection.",
			Suspects: []Suspect{
				{Who: "the peer had closed the idle connection before the request came", Tell: "in the capture: its FIN, then the request, then a RST", Shown: []Proof{cause("closed-idle"), incident("pool-older-than-the-balancer")}},
				{Who: "the peer closed with data unread", Tell: "`nstat TcpExtTCPAbortOnClose` rises where the RST comes from", Shown: []Proof{cause("closed-unread"), incident("answer-before-the-body")}},
				{Who: "a NAT that has forgotten an idle connection, or a balancer that goes on at another server", Tell: "nothing for longer than its timeout, then a RST; `conntrack -L --orig-src CLIENT` has no entry before the request, or another one after it", Shown: []Proof{cause("forgotten-client-speaks"), incident("idle-longer-than-the-nat"), incident("idle-and-another-server")}},
				{Who: "a listener that closes, one of several (`SO_REUSEPORT`) for example", Tell: "RST to clients that were connected and not yet accepted; `ss -tln` showed a Recv-Q before; `TcpExtTCPAbortOnClose` and `TcpExtTCPAbortOnData` stand still", Kernels: "since 5.14 `tcp_migrate_req=1` moves them to another listener", Shown: []Proof{cause("listener-closed"), incident("listener-of-several-closes")}},
				{Who: "the peer's process, which resets on purpose (`SO_LINGER` with 0)", Tell: "`nstat TcpExtTCPAbortOnData` rises where the RST comes from, and `TcpExtTCPAbortOnClose` does not; no FIN was before the RST", Shown: []Proof{cause("linger-reset")}},
				{Who: "a server that has restarted, and does not know the connection any more", Tell: "tcpdump at the server: data, and a RST without an ACK; `ss -tan` there does not have the connection; its boot time is later than the connection", Shown: []Proof{cause("server-restarted")}},
				{Who: "a REJECT rule with tcp-reset", Tell: "`nstat TcpOutRsts` stands still where the RST comes from, and the rule's packets rise; the other end still has the connection", Shown: []Proof{cause("rejected-open"), incident("reject-and-what-is-open")}},
				{Who: "the accept queue was full, with SYN cookies: the server knows nothing of the connection", Tell: "`nstat TcpExtListenOverflows TcpExtSyncookiesFailed` rises at the server; its `ss` has no such connection", Shown: []Proof{cause("accept-queue-ghost"), incident("accept-queue-ghosts-and-requests")}},
			},
			Do: []string{
				"Give up an idle connection before the balancer and the NAT do: a timeout below theirs at the client.",
				"Repeat requests that may be repeated.",
				"Read to the end before close, and leave `SO_LINGER` alone.",
				"Pass the listening socket on when a program is replaced.",
				"A REJECT rule for new connections only (`-m conntrack --ctstate NEW`).",
				"Accept faster, or a longer backlog.",
			},
			Often: "Of idle connections, those whose request crosses the FIN; the longer they are idle, the more.",
		},
		{
			ID:    "itself",
			See:   "Connected to a local port at which nobody listens, and the client reads what it wrote",
			Means: "The kernel drew the destination's own port as the source: the socket is connected to itself.",
			Suspects: []Suspect{
				{Who: "a client that tries again and again while the local service is down", Tell: "`ss -tan` shows a connection whose two ends are the same", Shown: []Proof{cause("connected-to-itself"), incident("connects-to-itself")}},
			},
			Do:    []string{"`net.ipv4.ip_local_reserved_ports` with the port of the service.", "Compare the two ends after connect."},
			Often: "By chance: each attempt draws a port, and the service's is among them if it is in `ip_local_port_range`.",
		},
	}
}

// behindABalancer are connections that a balancer answers in place of its server.
func behindABalancer() []Symptom {
	return []Symptom{
		{
			ID:    "bad-gateway",
			See:   "502, 503 or an empty answer from the balancer: at a reload, under load, or each time",
			Means: "The balancer answers, so the client's side is well: look at the balancer's log and at its servers.",
			Suspects: []Suspect{
				{Who: "a request that crosses the FIN of the old process", Tell: "at a reload only, on connections that were idle", Shown: []Proof{incident("reload-and-the-next-request"), cause("closed-idle")}},
				{Who: "HAProxy has no port left towards its servers", Tell: "the log says `SC`, `econ` rises; `ss -tan state time-wait` on the balancer", Shown: []Proof{cause("lb-no-port"), incident("balancer-without-ports"), rule("proxyports-http"), rule("proxyports-exhausted")}},
				{Who: "HAProxy gets no connection to its server: no listener, a rule on the way, a full queue", Tell: "tcpdump on the balancer: SYNs to the server, answered by RSTs or not at all; the log says `SC` or `sC`; `nstat TcpAttemptFails` rises there", Shown: []Proof{cause("lb-backend-down")}},
				{Who: "the server resets before it has answered: HAProxy makes a FIN of it (mode tcp, an empty answer), or 502 (mode http)", Tell: "tcpdump on the balancer: a RST of the server, then a FIN to the client; the log says `SD` or `SH`; `nstat TcpEstabResets` rises there", Shown: []Proof{cause("fin-made-of-reset")}},
				{Who: "the client's own deadline is shorter than the answer takes", Tell: "the first FIN or RST is the client's; the log says `CD` or `CH`, `cli_abrt` rises", Shown: []Proof{cause("client-gave-up"), rule("proxyloss-client-http")}},
				{Who: "the server closes its connection without an answer: HAProxy answers by 502 (mode http)", Tell: "tcpdump on the balancer: the request to the server, then a FIN of the server and no data before it; the log says `SH`", Shown: []Proof{cause("lb-server-closed")}},
				{Who: "the server closes idle connections earlier than the balancer's pool", Tell: "the server's FIN, then the request, then a RST", Shown: []Proof{cause("closed-idle")}},
			},
			Do: []string{
				"Each time: look why the server does not answer, as under [no answer](#no-answer) and [refused](#refused), with the balancer as the client; health checks take it out.",
				"`option idle-close-on-response` for reloads.",
				"For ports: `tcp_tw_reuse=1` on the balancer with timestamps on at both sides, `option nolinger` in the backend, more servers, or `source ADDRESS:FIRST-LAST`.",
				"The server's idle timeout above the balancer's.",
			},
			Often: "At a reload: each request that is on its way while the old process closes. Ports: as under [EADDRNOTAVAIL](#no-port), for each server. A server that does not answer, or resets: each request to it. A deadline: each request that takes longer.",
		},
		{
			ID:    "truncated",
			See:   "A response that is too short, and no error",
			Means: "Only who counts bytes notices: use `Content-Length` or chunks.",
			Suspects: []Suspect{
				{Who: "HAProxy makes a FIN of the server's RST", Tell: "the server's side of the capture has a RST", Shown: []Proof{cause("fin-made-of-reset"), rule("proxyloss-rst-unnoticed")}},
				{Who: "HAProxy's `timeout server` ends the response", Tell: "the server is silent for that long, then HAProxy sends the first FIN; the log says `sD`", Shown: []Proof{cause("lb-gave-up"), rule("proxyloss-stall-unnoticed")}},
				{Who: "the server's process closes in the middle", Tell: "the server's FIN comes first, and no RST", Shown: []Proof{cause("cut-short"), rule("proxyloss-fin-unnoticed")}},
				{Who: "`option nolinger` in the frontend, and a slow client", Tell: "`ECONNRESET` after a part; the log says `----`", Shown: []Proof{rule("proxyloss-cut-nolinger")}},
				{Who: "`SO_LINGER` with 0, with data unsent", Tell: "`nstat TcpExtTCPAbortOnData` rises", Shown: []Proof{rule("remedies-linger-loses-data")}},
			},
			Do:    []string{"`Content-Length`, and clients that check it.", "`option nolinger` in the backend only.", "Close by RST only when everything has been read."},
			Often: "Each time the server resets in the middle, or the client's window has no room for the whole response.",
		},
	}
}
