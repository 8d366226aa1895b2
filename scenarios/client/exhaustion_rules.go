package client

import (
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Where the TIME_WAIT is. There is none when the table of TIME_WAITs is full.
var (
	atClient  = claim.Cells{{closer: {string(ClientCloses)}}}
	tableFull = claim.Cells{{closer: {string(ClientCloses)}, buckets: {"exceeded"}}, {closer: {string(BalancerCloses)}, destination: onClient(), buckets: {"exceeded"}}}
)

// Which connections have timestamps.
var (
	bothTimestamps     = claim.Where{exhaustionClientTS: {"1"}, exhaustionBalancerTS: {"1"}}
	eitherNoTimestamps = claim.Cells{{exhaustionClientTS: {"0"}}, {exhaustionBalancerTS: {"0"}}}
)

// connected is what every cell expects in which the client connects.
var connected = []claim.Expectation{
	situation.Outcome(tcp.Connected), claim.Exactly("syns", 1), claim.Exactly("syns seen", 1), claim.Is("answers", "SYN-ACK"), claim.Exactly("accepted", 1),
	claim.Exactly("nat clashes", 0), claim.Exactly("paws rejects", 0),
	claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Exactly("client time-wait after", 0), claim.Exactly("balancer time-wait after", 0),
}

// fresh is a port that is not in use: an ordinary new connection.
var fresh = claim.With([]claim.Expectation{claim.Stays(lab.Client, "TcpExt.TWRecycled"), claim.Is("echo", "none", "zero"),
	claim.Exactly("client time-wait", 0)}, connected...)

// taken is a port that is taken over from one of the client's own TIME_WAITs.
var taken = claim.With([]claim.Expectation{claim.Rises(lab.Client, "TcpExt.TWRecycled"), claim.Is("echo", "set"), claim.Is("end", "FIN"), claim.Is("timestamps", "yes"),
	claim.Exactly("client time-wait", 1), claim.Exactly("balancer time-wait", 0),
	claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, connected...)

// A port that is refused, by bind or by connect.
var (
	refused = []claim.Expectation{
		claim.Exactly("syns", 0), claim.Exactly("syns seen", 0), claim.Exactly("accepted", 0), claim.Is("end", "FIN"),
		claim.Exactly("client time-wait", 1), claim.Exactly("client time-wait after", 1), claim.Exactly("balancer time-wait", 0),
		claim.Stays(lab.Client, "TcpExt.TWRecycled"), claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
	}
	noPort    = claim.With([]claim.Expectation{situation.Outcome(tcp.NoPort)}, refused...)
	portInUse = claim.With([]claim.Expectation{situation.Outcome(tcp.PortInUse)}, refused...)
)

// exhaustionNoTimeWaitRules are about cells without a TIME_WAIT: the kernel lacks the
// socket option, or the connection has left no TIME_WAIT.
func exhaustionNoTimeWaitRules() []claim.Rule {
	aborted := claim.Cells{{closer: {string(ClientResets)}}}

	return []claim.Rule{
		{
			Name: "exhaustion-late-unknown", Cells: claim.Cells{{exhaustionPort: {string(LatePortOf)}}},
			Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.LatePort)}, Want: []claim.Expectation{claim.Is("outcome", noSuchOption)},
			Uncaused: "the attempt ends at a socket option that the kernel does not know, before it connects",
			Because: "a kernel without IP_BIND_ADDRESS_NO_PORT rejects the option (ENOPROTOOPT), so a program that binds an address must let bind " +
				"choose the port",
			Source: "do_ip_setsockopt before commit 90c337da1524",
		},
		{
			Name: "exhaustion-reset", Cells: aborted,
			Want: claim.With([]claim.Expectation{claim.Is("end", "RST"), claim.Exactly("balancer time-wait", 0), claim.Rises(lab.Client, "TcpExt.TCPAbortOnData"),
				claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
			Because: "a connection that ends with a RST leaves no TIME_WAIT on either side, and its port is free at once",
			Source:  "RFC 9293 section 3.10.7.4, tcp_close, tcp_disconnect, tcp_reset",
		},
		{
			Name: "exhaustion-overflow", Cells: tableFull,
			Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Exactly("balancer time-wait", 0), claim.Rises(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
				claim.Stays(lab.Client, "TcpExt.TCPAbortOnData")}, fresh...),
			Because: "a host that already has tcp_max_tw_buckets TIME_WAITs creates no more: the connection is gone at once, and its port is free",
			Source:  "tcp_time_wait, inet_twsk_alloc",
		},
	}
}

// exhaustionBalancerRules are about a TIME_WAIT at the balancer.
func exhaustionBalancerRules() []claim.Rule {
	atBalancer := claim.Cells{{closer: {string(BalancerCloses)}}}

	return []claim.Rule{
		{
			Name: "exhaustion-balancer-newer-timestamp", Cells: atBalancer.And(bothTimestamps),
			Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Is("timestamps", "yes"), claim.Exactly("balancer time-wait", 1),
				claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
			Because: "the side that closes first has the TIME_WAIT. Here this is the balancer, so the client's port is free; the balancer's " +
				"TIME_WAIT accepts the SYN, because the clock of the same host has advanced",
			Source: "RFC 6191, tcp_timewait_state_process",
		},
		{
			Name: "exhaustion-balancer-newer-number", Cells: atBalancer,
			Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Is("timestamps", "no"), claim.Exactly("balancer time-wait", 1),
				claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
			Because: "without timestamps the balancer compares sequence numbers, and for the same five-tuple the initial sequence number of a host " +
				"increases with time",
			Source: "RFC 6528, secure_tcp_seq; RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
		},
	}
}

// exhaustionBindRules are about a TIME_WAIT at the client, and a port that bind chooses.
func exhaustionBindRules() []claim.Rule {
	return []claim.Rule{
		{
			Name: "exhaustion-bind-refused", Cells: atClient.And(claim.Where{exhaustionPort: {string(FixedPort)}}), Want: portInUse,
			Cause:   "port-in-use",
			Because: "bind does not know the destination, so without SO_REUSEADDR it fails if there is any TIME_WAIT on the port (EADDRINUSE)",
			Source:  "inet_csk_get_port, inet_csk_bind_conflict",
		},
		{
			Name: "exhaustion-address-refused", Cells: atClient.And(claim.Where{exhaustionPort: {string(EarlyPortOf)}}), Want: portInUse,
			Cause:   "ports-exhausted",
			Because: "bind to an address and port 0 chooses the port at once, and needs a port without any TIME_WAIT; tcp_tw_reuse has no effect",
			Source:  "inet_csk_find_open_port, inet_csk_bind_conflict",
		},
		{
			Name: "exhaustion-bind-reuses", Cells: atClient.And(claim.Where{exhaustionPort: {string(SharedPort)}}).And(bothTimestamps), Want: taken,
			Because: "if the port was bound with SO_REUSEADDR both times, connect takes over the TIME_WAIT whatever its age and whatever " +
				"tcp_tw_reuse says, provided that the old connection had timestamps",
			Source: "inet_csk_bind_conflict, __inet_hash_connect, tcp_twsk_unique with twp == NULL",
		},
		{
			Name: "exhaustion-bind-needs-timestamps", Cells: atClient.And(claim.Where{exhaustionPort: {string(SharedPort)}}),
			Want:    claim.With([]claim.Expectation{claim.Is("timestamps", "no")}, noPort...),
			Cause:   "ports-exhausted",
			Because: "bind succeeds, but connect takes over no TIME_WAIT whose connection had no timestamps (EADDRNOTAVAIL)",
			Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
		},
	}
}

// exhaustionConnectRules are about a TIME_WAIT at the client, and a port that connect
// chooses.
func exhaustionConnectRules() []claim.Rule {
	connectChooses := claim.Where{exhaustionPort: {string(AutoPort), string(LatePortOf)}}

	return []claim.Rule{
		{
			Name: "exhaustion-reuse-off", Cells: atClient.And(connectChooses).And(claim.Where{reuse: {"0"}}), Want: noPort,
			Cause: "ports-exhausted",
			Because: "with tcp_tw_reuse=0 connect cannot use a port that is in TIME_WAIT towards that destination, however old the TIME_WAIT is " +
				"(EADDRNOTAVAIL)",
			Source: "__inet_check_established, tcp_twsk_unique",
		},
		{
			Name: "exhaustion-reuse-loopback-only", Cells: atClient.And(connectChooses).And(claim.Where{reuse: {"2"}, destination: {string(AtBalancer), string(AtOwnAddress)}}),
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.LoopbackReuse)}, Want: noPort,
			Cause: "ports-exhausted",
			Because: "tcp_tw_reuse=2, the default, applies only to loopback addresses; towards another host, and towards the host's own other " +
				"addresses, it is the same as 0",
			Source: "commit 79e9fed46038, tcp_twsk_unique",
		},
		{
			Name: "exhaustion-no-timestamps", Cells: eitherNoTimestamps.And(claim.Where{closer: {string(ClientCloses)}}).And(connectChooses),
			Want:    claim.With([]claim.Expectation{claim.Is("timestamps", "no")}, noPort...),
			Cause:   "ports-exhausted",
			Because: "if timestamps are off on either side, the connection has none, and tcp_tw_reuse never takes its TIME_WAIT",
			Source:  "RFC 7323 section 1.3, tcp_twsk_unique: tw_ts_recent_stamp",
		},
		{
			Name: "exhaustion-too-young", Cells: atClient.And(connectChooses).And(claim.Where{age: {"younger"}}),
			Kernels: []claim.Condition{claim.Has(lab.Client, kernel.ReuseDelay)}, Want: claim.With([]claim.Expectation{claim.Is("timestamps", "yes")}, noPort...),
			Cause:   "ports-exhausted",
			Because: "tcp_tw_reuse takes a TIME_WAIT only when it is tcp_tw_reuse_delay old, 1 s by default",
			Source:  "tcp_twsk_unique: tw_entry_stamp; commits 19ce8cd30465 and ca6a6f93867a",
		},
		{
			Name: "exhaustion-too-young-1s", Cells: atClient.And(connectChooses).And(claim.Where{age: {"younger"}}),
			Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.ReuseDelay)}, Want: claim.With([]claim.Expectation{claim.Is("timestamps", "yes")}, noPort...),
			Cause: "ports-exhausted",
			Because: "tcp_tw_reuse takes a TIME_WAIT only after a new second of the clock has begun since the connection's last timestamp was " +
				"received (0 to 1 s); before Linux 4.19, only after two have begun (1 to 2 s)",
			Source: "tcp_twsk_unique: tw_ts_recent_stamp; commit cca9bab1b72c",
		},
		{
			Name: "exhaustion-reused", Cells: atClient.And(connectChooses), Want: taken,
			Because: "tcp_tw_reuse takes a TIME_WAIT that is old enough and whose connection had timestamps. It compares no timestamps; the new " +
				"SYN echoes the last timestamp of the old connection",
			Source: "tcp_twsk_unique",
		},
	}
}
