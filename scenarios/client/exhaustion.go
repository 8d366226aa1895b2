package client

import (
	"context"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Exhaustion is the family of the client that runs out of ports: it has one local
// port, its connection ends, and it connects to the same door again.
func Exhaustion() situation.Family {
	const (
		path        = "path"
		clientTS    = "client-ts"
		lbTS        = "lb-ts"
		reuse       = "tw-reuse"
		closer      = "closer"
		age         = "age"
		destination = "destination"
		port        = "port"
		buckets     = "tw-buckets"
		delay       = "reuse-delay"
	)
	client, lb, reset := string(ClientCloses), string(BalancerCloses), string(ClientResets)
	remote, loopback, own := string(AtBalancer), string(AtLoopback), string(AtOwnAddress)
	auto, late, address := string(AutoPort), string(LatePortOf), string(EarlyPortOf)
	fixed, fixedReuse := string(FixedPort), string(SharedPort)

	// Where the TIME_WAIT is. A socket that finds the table of TIME_WAITs full
	// has none.
	aborted := claim.Cells{{closer: {reset}}}
	full := claim.Cells{{closer: {client}, buckets: {"exceeded"}}, {closer: {lb}, destination: {loopback, own}, buckets: {"exceeded"}}}
	atBalancer := claim.Cells{{closer: {lb}}}
	atClient := claim.Cells{{closer: {client}}}

	stamped := claim.Where{clientTS: {"1"}, lbTS: {"1"}}
	bare := claim.Cells{{clientTS: {"0"}}, {lbTS: {"0"}}}
	connectChooses := claim.Where{port: {auto, late}}

	connected := []claim.Expectation{
		situation.Verdict(tcp.Connected), claim.Exactly("syns", 1), claim.Exactly("syns seen", 1), claim.Is("answers", "SYN-ACK"), claim.Exactly("accepted", 1),
		claim.Exactly("nat clashes", 0), claim.Exactly("paws rejects", 0),
		claim.Stays(lab.Client, "TcpExt.TCPSynRetrans"), claim.Exactly("client time-wait after", 0), claim.Exactly("balancer time-wait after", 0),
	}
	// A port that nobody holds: an ordinary new connection.
	fresh := claim.With([]claim.Expectation{claim.Stays(lab.Client, "TcpExt.TWRecycled"), claim.Is("echo", "none", "zero"),
		claim.Exactly("client time-wait", 0)}, connected...)
	// A port that is taken from a TIME_WAIT of the client's own.
	taken := claim.With([]claim.Expectation{claim.Rises(lab.Client, "TcpExt.TWRecycled"), claim.Is("echo", "set"), claim.Is("end", "FIN"), claim.Is("timestamps", "yes"),
		claim.Exactly("client time-wait", 1), claim.Exactly("balancer time-wait", 0),
		claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, connected...)
	refused := []claim.Expectation{
		claim.Exactly("syns", 0), claim.Exactly("syns seen", 0), claim.Exactly("accepted", 0), claim.Is("end", "FIN"),
		claim.Exactly("client time-wait", 1), claim.Exactly("client time-wait after", 1), claim.Exactly("balancer time-wait", 0),
		claim.Stays(lab.Client, "TcpExt.TWRecycled"), claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
	}
	noPort := claim.With([]claim.Expectation{situation.Verdict(tcp.NoPort)}, refused...)
	portInUse := claim.With([]claim.Expectation{situation.Verdict(tcp.PortInUse)}, refused...)

	return situation.Family{
		Family: claim.Family{
			Name:     "exhaustion",
			Evidence: samePortEvidence(),
			About: "A client has one port for a door, its connection there ends, and it connects again: " +
				"does it get the port, and what decides that?",
			Axes: []claim.Axis{
				{Name: path, Values: []string{"direct", "nat"}, Product: true,
					Means: "whether the client reaches the balancer directly or through MASQUERADE"},
				{Name: clientTS, Values: []string{"1", "0"}, Product: true, Knob: claim.Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the client"},
				{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: claim.Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: reuse, Values: []string{"1", "2", "0"}, Product: true, Knob: claim.Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_tw_reuse"},
					Means: "tcp_tw_reuse of the client"},
				{Name: closer, Values: []string{client, lb, reset}, Product: true,
					Means: "who ends the first connection: the client or the balancer by FIN, or the client by RST (SO_LINGER with 0 seconds)"},
				{Name: age, Values: []string{"younger", "older"}, Product: true,
					Means: "the age of the TIME_WAIT when the client comes again, against the age from which tcp_tw_reuse takes it"},
				{Name: destination, Values: []string{remote, loopback, own},
					Means: "where the door is: at the balancer, or at the client itself on 127.0.0.1 or on the address of its link"},
				{Name: port, Values: []string{auto, fixed, fixedReuse, address, late},
					Means: "how both connections get their port: from connect, by bind to the number without or with SO_REUSEADDR, " +
						"by bind to the address and port 0, or the same with IP_BIND_ADDRESS_NO_PORT"},
				{Name: buckets, Values: []string{"default", "exceeded"},
					Means: "whether the client's tcp_max_tw_buckets has room for a TIME_WAIT"},
				{Name: delay, Values: []string{"1000", "1", "60000"},
					Knob:  claim.Knob{Role: lab.Client, Sysctl: situation.ReuseDelay, IfPresent: true},
					Means: "tcp_tw_reuse_delay of the client in milliseconds, where the kernel has it"},
			},
			Crossed: [][]string{
				{port, clientTS, lbTS, reuse}, {port, closer, age, buckets}, {destination, port, reuse, age},
				{destination, closer, buckets, clientTS}, {delay, age, reuse, destination},
			},
			Impossible: []claim.Impossible{
				{Cells: claim.Cells{{destination: {loopback, own}, path: {"nat"}}}, Because: "what a host sends to itself passes no gateway"},
				{Cells: claim.Cells{{destination: {loopback, own}, lbTS: {"0"}}}, Because: "at a door of the client's own the balancer has no part"},
				{Cells: claim.Cells{{age: {"older"}, closer: {reset}}}, Because: "a RST leaves no TIME_WAIT that could grow older"},
				{Cells: full.And(claim.Where{age: {"older"}}), Because: "without room there is no TIME_WAIT that could grow older"},
				{Cells: claim.Cells{{age: {"younger"}, delay: {"1"}}}, Because: "nobody is certain to be back within a millisecond"},
				{Cells: claim.Cells{{age: {"older"}, delay: {"60000"}}}, Because: "a TIME_WAIT is gone after 60 s"},
			},
			Rules: []claim.Rule{
				{
					Name: "exhaustion-late-unknown", Cells: claim.Cells{{port: {late}}},
					Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.LatePort)}, Want: []claim.Expectation{claim.Is("verdict", noSuchOption)},
					Because: "a kernel without IP_BIND_ADDRESS_NO_PORT refuses the option (ENOPROTOOPT), which leaves a program nothing but the " +
						"early choice of the port",
					Source: "do_ip_setsockopt before commit 90c337da1524",
				},
				{
					Name: "exhaustion-reset", Cells: aborted,
					Want: claim.With([]claim.Expectation{claim.Is("end", "RST"), claim.Exactly("balancer time-wait", 0), claim.Rises(lab.Client, "TcpExt.TCPAbortOnData"),
						claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "a connection that is ended by RST leaves no TIME_WAIT on either side, and its port is free at once",
					Source:  "RFC 9293 section 3.10.7.4, tcp_close, tcp_disconnect, tcp_reset",
				},
				{
					Name: "exhaustion-overflow", Cells: full,
					Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Exactly("balancer time-wait", 0), claim.Rises(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
						claim.Stays(lab.Client, "TcpExt.TCPAbortOnData")}, fresh...),
					Because: "a host that has tcp_max_tw_buckets of TIME_WAITs makes no more of them: the connection is gone at " +
						"once, and its port free",
					Source: "tcp_time_wait, inet_twsk_alloc",
				},
				{
					Name: "exhaustion-balancer-newer-stamp", Cells: atBalancer.And(stamped),
					Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Is("timestamps", "yes"), claim.Exactly("balancer time-wait", 1),
						claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "who closes first has the TIME_WAIT; when it is the balancer, the client's port is free, and the balancer gives its " +
						"TIME_WAIT up for the SYN of the same host, whose clock has gone on",
					Source: "RFC 6191, tcp_timewait_state_process",
				},
				{
					Name: "exhaustion-balancer-newer-number", Cells: atBalancer,
					Want: claim.With([]claim.Expectation{claim.Is("end", "FIN"), claim.Is("timestamps", "no"), claim.Exactly("balancer time-wait", 1),
						claim.Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "without timestamps the balancer goes by the sequence number, and the initial one of the same host for the same " +
						"five-tuple goes on with the time",
					Source: "RFC 6528, secure_tcp_seq; RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
				},
				{
					Name: "exhaustion-bind-refused", Cells: atClient.And(claim.Where{port: {fixed}}), Want: portInUse,
					Because: "bind does not know where the connection will go, so without SO_REUSEADDR any TIME_WAIT on the port " +
						"refuses it (EADDRINUSE)",
					Source: "inet_csk_get_port, inet_csk_bind_conflict",
				},
				{
					Name: "exhaustion-address-refused", Cells: atClient.And(claim.Where{port: {address}}), Want: portInUse,
					Because: "bind to an address and port 0 chooses the port at once and wants one without any TIME_WAIT; " +
						"tcp_tw_reuse is not asked",
					Source: "inet_csk_find_open_port, inet_csk_bind_conflict",
				},
				{
					Name: "exhaustion-bind-reuses", Cells: atClient.And(claim.Where{port: {fixedReuse}}).And(stamped), Want: taken,
					Because: "for a port that was bound with SO_REUSEADDR both times, connect takes the TIME_WAIT whatever its age and " +
						"tcp_tw_reuse, if that connection had timestamps",
					Source: "inet_csk_bind_conflict, __inet_hash_connect, tcp_twsk_unique with twp == NULL",
				},
				{
					Name: "exhaustion-bind-needs-timestamps", Cells: atClient.And(claim.Where{port: {fixedReuse}}),
					Want:    claim.With([]claim.Expectation{claim.Is("timestamps", "no")}, noPort...),
					Because: "bind succeeds, but connect takes no TIME_WAIT whose connection had no timestamps (EADDRNOTAVAIL)",
					Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
				},
				{
					Name: "exhaustion-reuse-off", Cells: atClient.And(connectChooses).And(claim.Where{reuse: {"0"}}), Want: noPort,
					Because: "with tcp_tw_reuse=0 a port in TIME_WAIT is taken for that destination, however old it is (EADDRNOTAVAIL)",
					Source:  "__inet_check_established, tcp_twsk_unique",
				},
				{
					Name: "exhaustion-reuse-loopback-only", Cells: atClient.And(connectChooses).And(claim.Where{reuse: {"2"}, destination: {remote, own}}),
					Kernels: []claim.Condition{claim.Has(lab.Client, kernel.LoopbackReuse)}, Want: noPort,
					Because: "tcp_tw_reuse=2, the default, is for loopback addresses; towards another host, and towards the host's own other addresses, " +
						"it is the same as 0",
					Source: "commit 79e9fed46038, tcp_twsk_unique",
				},
				{
					Name: "exhaustion-no-timestamps", Cells: bare.And(claim.Where{closer: {client}}).And(connectChooses),
					Want:    claim.With([]claim.Expectation{claim.Is("timestamps", "no")}, noPort...),
					Because: "when either side does without timestamps the connection has none, and tcp_tw_reuse never takes its TIME_WAIT",
					Source:  "RFC 7323 section 1.3, tcp_twsk_unique: tw_ts_recent_stamp",
				},
				{
					Name: "exhaustion-too-young", Cells: atClient.And(connectChooses).And(claim.Where{age: {"younger"}}),
					Kernels: []claim.Condition{claim.Has(lab.Client, kernel.ReuseDelay)}, Want: claim.With([]claim.Expectation{claim.Is("timestamps", "yes")}, noPort...),
					Because: "tcp_tw_reuse takes a TIME_WAIT only when tcp_tw_reuse_delay, 1 s by default, has passed since it began",
					Source:  "tcp_twsk_unique: tw_entry_stamp; commits 19ce8cd30465 and ca6a6f93867a",
				},
				{
					Name: "exhaustion-too-young-1s", Cells: atClient.And(connectChooses).And(claim.Where{age: {"younger"}}),
					Kernels: []claim.Condition{claim.Lacks(lab.Client, kernel.ReuseDelay)}, Want: claim.With([]claim.Expectation{claim.Is("timestamps", "yes")}, noPort...),
					Because: "tcp_tw_reuse takes a TIME_WAIT only when a new second has begun since its last timestamp came, and two " +
						"before Linux 4.19: after 0 to 1 s, or 1 to 2 s",
					Source: "tcp_twsk_unique: tw_ts_recent_stamp; commit cca9bab1b72c",
				},
				{
					Name: "exhaustion-reused", Cells: atClient.And(connectChooses), Want: taken,
					Because: "tcp_tw_reuse takes a TIME_WAIT that is old enough and whose connection had timestamps; no timestamps are compared, " +
						"and the SYN echoes the last one of the connection before",
					Source: "tcp_twsk_unique",
				},
			},
		},
		Topology: func(c claim.Cell) lab.Topology {
			// Few retries: what is shut out by mistake shall not take long.
			t := lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2")}
			if c.Is(path, "nat") {
				t.Gateway.Kind = lab.Masquerade
			}
			if c.Is(destination, loopback, own) {
				t.Loopback = lab.Client
			}
			if c.Is(buckets, "exceeded") {
				t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.tcp_max_tw_buckets=0")
			}
			return t
		},
		Drive: func(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
			again := SamePort{
				Door:    DoorAt(c.Value(destination)),
				Closer:  Closer(c.Value(closer)),
				Binding: Binding(c.Value(port)),
				Older:   c.Is(age, "older"),
			}
			return again.Drive(ctx, l)
		},
	}
}
