package scenarios

import (
	"context"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// Exhaustion is the family of the client that runs out of ports: it has one local
// port, its connection ends, and it connects to the same door again.
func Exhaustion() Driven {
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
	aborted := Cells{{closer: {reset}}}
	full := Cells{{closer: {client}, buckets: {"exceeded"}}, {closer: {lb}, destination: {loopback, own}, buckets: {"exceeded"}}}
	atBalancer := Cells{{closer: {lb}}}
	atClient := Cells{{closer: {client}}}

	stamped := Where{clientTS: {"1"}, lbTS: {"1"}}
	bare := Cells{{clientTS: {"0"}}, {lbTS: {"0"}}}
	connectChooses := Where{port: {auto, late}}

	connected := []Expectation{
		verdict(tcp.Connected), Exactly("syns", 1), Exactly("syns seen", 1), Is("answers", "SYN-ACK"), Exactly("accepted", 1),
		Exactly("nat clashes", 0), Exactly("paws rejects", 0),
		Stays(lab.Client, "TcpExt.TCPSynRetrans"), Exactly("client time-wait after", 0), Exactly("balancer time-wait after", 0),
	}
	// A port that nobody holds: an ordinary new connection.
	fresh := with([]Expectation{Stays(lab.Client, "TcpExt.TWRecycled"), Is("echo", "none", "zero"),
		Exactly("client time-wait", 0)}, connected...)
	// A port that is taken from a TIME_WAIT of the client's own.
	taken := with([]Expectation{Rises(lab.Client, "TcpExt.TWRecycled"), Is("echo", "set"), Is("end", "FIN"), Is("timestamps", "yes"),
		Exactly("client time-wait", 1), Exactly("balancer time-wait", 0),
		Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, connected...)
	refused := []Expectation{
		Exactly("syns", 0), Exactly("syns seen", 0), Exactly("accepted", 0), Is("end", "FIN"),
		Exactly("client time-wait", 1), Exactly("client time-wait after", 1), Exactly("balancer time-wait", 0),
		Stays(lab.Client, "TcpExt.TWRecycled"), Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
	}
	noPort := with([]Expectation{verdict(tcp.NoPort)}, refused...)
	portInUse := with([]Expectation{verdict(tcp.PortInUse)}, refused...)

	return Driven{
		Family: Family{
			Name:     "exhaustion",
			Evidence: samePortEvidence(),
			About: "A client has one port for a door, its connection there ends, and it connects again: " +
				"does it get the port, and what decides that?",
			Axes: []Axis{
				{Name: path, Values: []string{"direct", "nat"}, Product: true,
					Means: "whether the client reaches the balancer directly or through MASQUERADE"},
				{Name: clientTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the client"},
				{Name: lbTS, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: reuse, Values: []string{"1", "2", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_tw_reuse"},
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
					Knob:  Knob{Role: lab.Client, Sysctl: reuseDelay, IfPresent: true},
					Means: "tcp_tw_reuse_delay of the client in milliseconds, where the kernel has it"},
			},
			Crossed: [][]string{
				{port, clientTS, lbTS, reuse}, {port, closer, age, buckets}, {destination, port, reuse, age},
				{destination, closer, buckets, clientTS}, {delay, age, reuse, destination},
			},
			Impossible: []Impossible{
				{Cells{{destination: {loopback, own}, path: {"nat"}}}, "what a host sends to itself passes no gateway"},
				{Cells{{destination: {loopback, own}, lbTS: {"0"}}}, "at a door of the client's own the balancer has no part"},
				{Cells{{age: {"older"}, closer: {reset}}}, "a RST leaves no TIME_WAIT that could grow older"},
				{full.And(Where{age: {"older"}}), "without room there is no TIME_WAIT that could grow older"},
				{Cells{{age: {"younger"}, delay: {"1"}}}, "nobody is certain to be back within a millisecond"},
				{Cells{{age: {"older"}, delay: {"60000"}}}, "a TIME_WAIT is gone after 60 s"},
			},
			Rules: []Rule{
				{
					Name: "exhaustion-late-unknown", Cells: Cells{{port: {late}}},
					Kernels: []Condition{Lacks(lab.Client, kernel.LatePort)}, Want: []Expectation{Is("verdict", noSuchOption)},
					Because: "a kernel without IP_BIND_ADDRESS_NO_PORT refuses the option (ENOPROTOOPT), which leaves a program nothing but the " +
						"early choice of the port",
					Source: "do_ip_setsockopt before commit 90c337da1524",
				},
				{
					Name: "exhaustion-reset", Cells: aborted,
					Want: with([]Expectation{Is("end", "RST"), Exactly("balancer time-wait", 0), Rises(lab.Client, "TcpExt.TCPAbortOnData"),
						Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "a connection that is ended by RST leaves no TIME_WAIT on either side, and its port is free at once",
					Source:  "RFC 9293 section 3.10.7.4, tcp_close, tcp_disconnect, tcp_reset",
				},
				{
					Name: "exhaustion-overflow", Cells: full,
					Want: with([]Expectation{Is("end", "FIN"), Exactly("balancer time-wait", 0), Rises(lab.Client, "TcpExt.TCPTimeWaitOverflow"),
						Stays(lab.Client, "TcpExt.TCPAbortOnData")}, fresh...),
					Because: "a host that has tcp_max_tw_buckets of TIME_WAITs makes no more of them: the connection is gone at " +
						"once, and its port free",
					Source: "tcp_time_wait, inet_twsk_alloc",
				},
				{
					Name: "exhaustion-balancer-newer-stamp", Cells: atBalancer.And(stamped),
					Want: with([]Expectation{Is("end", "FIN"), Is("timestamps", "yes"), Exactly("balancer time-wait", 1),
						Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "who closes first has the TIME_WAIT; when it is the balancer, the client's port is free, and the balancer gives its " +
						"TIME_WAIT up for the SYN of the same host, whose clock has gone on",
					Source: "RFC 6191, tcp_timewait_state_process",
				},
				{
					Name: "exhaustion-balancer-newer-number", Cells: atBalancer,
					Want: with([]Expectation{Is("end", "FIN"), Is("timestamps", "no"), Exactly("balancer time-wait", 1),
						Stays(lab.Client, "TcpExt.TCPTimeWaitOverflow")}, fresh...),
					Because: "without timestamps the balancer goes by the sequence number, and the initial one of the same host for the same " +
						"five-tuple goes on with the time",
					Source: "RFC 6528, secure_tcp_seq; RFC 1122 section 4.2.2.13, tcp_timewait_state_process",
				},
				{
					Name: "exhaustion-bind-refused", Cells: atClient.And(Where{port: {fixed}}), Want: portInUse,
					Because: "bind does not know where the connection will go, so without SO_REUSEADDR any TIME_WAIT on the port " +
						"refuses it (EADDRINUSE)",
					Source: "inet_csk_get_port, inet_csk_bind_conflict",
				},
				{
					Name: "exhaustion-address-refused", Cells: atClient.And(Where{port: {address}}), Want: portInUse,
					Because: "bind to an address and port 0 chooses the port at once and wants one without any TIME_WAIT; " +
						"tcp_tw_reuse is not asked",
					Source: "inet_csk_find_open_port, inet_csk_bind_conflict",
				},
				{
					Name: "exhaustion-bind-reuses", Cells: atClient.And(Where{port: {fixedReuse}}).And(stamped), Want: taken,
					Because: "for a port that was bound with SO_REUSEADDR both times, connect takes the TIME_WAIT whatever its age and " +
						"tcp_tw_reuse, if that connection had timestamps",
					Source: "inet_csk_bind_conflict, __inet_hash_connect, tcp_twsk_unique with twp == NULL",
				},
				{
					Name: "exhaustion-bind-needs-timestamps", Cells: atClient.And(Where{port: {fixedReuse}}),
					Want:    with([]Expectation{Is("timestamps", "no")}, noPort...),
					Because: "bind succeeds, but connect takes no TIME_WAIT whose connection had no timestamps (EADDRNOTAVAIL)",
					Source:  "tcp_twsk_unique: tw_ts_recent_stamp",
				},
				{
					Name: "exhaustion-reuse-off", Cells: atClient.And(connectChooses).And(Where{reuse: {"0"}}), Want: noPort,
					Because: "with tcp_tw_reuse=0 a port in TIME_WAIT is taken for that destination, however old it is (EADDRNOTAVAIL)",
					Source:  "__inet_check_established, tcp_twsk_unique",
				},
				{
					Name: "exhaustion-reuse-loopback-only", Cells: atClient.And(connectChooses).And(Where{reuse: {"2"}, destination: {remote, own}}),
					Kernels: []Condition{Has(lab.Client, kernel.LoopbackReuse)}, Want: noPort,
					Because: "tcp_tw_reuse=2, the default, is for loopback addresses; towards another host, and towards the host's own other addresses, " +
						"it is the same as 0",
					Source: "commit 79e9fed46038, tcp_twsk_unique",
				},
				{
					Name: "exhaustion-no-timestamps", Cells: bare.And(Where{closer: {client}}).And(connectChooses),
					Want:    with([]Expectation{Is("timestamps", "no")}, noPort...),
					Because: "when either side does without timestamps the connection has none, and tcp_tw_reuse never takes its TIME_WAIT",
					Source:  "RFC 7323 section 1.3, tcp_twsk_unique: tw_ts_recent_stamp",
				},
				{
					Name: "exhaustion-too-young", Cells: atClient.And(connectChooses).And(Where{age: {"younger"}}),
					Kernels: []Condition{Has(lab.Client, kernel.ReuseDelay)}, Want: with([]Expectation{Is("timestamps", "yes")}, noPort...),
					Because: "tcp_tw_reuse takes a TIME_WAIT only when tcp_tw_reuse_delay, 1 s by default, has passed since it began",
					Source:  "tcp_twsk_unique: tw_entry_stamp; commits 19ce8cd30465 and ca6a6f93867a",
				},
				{
					Name: "exhaustion-too-young-1s", Cells: atClient.And(connectChooses).And(Where{age: {"younger"}}),
					Kernels: []Condition{Lacks(lab.Client, kernel.ReuseDelay)}, Want: with([]Expectation{Is("timestamps", "yes")}, noPort...),
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
		Topology: func(c Cell) lab.Topology {
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
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
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
