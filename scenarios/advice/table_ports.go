package advice

import (
	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// usualPorts is the number of ports of the default range, on kernels since 4.2.
const usualPorts = 28232

func portItems() []Item {
	return []Item{
		{
			Sysctl: portRange, If: between(1, 32767), With: []With{{Sysctl: reserved, Unset: true}}, Level: Danger,
			Says: "connect(2) may draw a port that a service of this host listens on: when that starts again, it gets EADDRINUSE, also while " +
				"the connection is in TIME_WAIT. Name the ports of services from {value} on in net.ipv4.ip_local_reserved_ports.",
			Shown: files("listener-meets-a-client.yaml", "reserved-port.yaml"),
		},
		{
			Sysctl: portRange, If: atLeast(usualPorts + 2).ofPorts(), Roles: opens, Level: Note,
			Says:  "{ports} connections to one destination at a time, TIME_WAITs counted, instead of 28232.",
			Shown: rules("remedies-more"),
		},
		{
			Sysctl: portRange, If: between(1, usualPorts-1).ofPorts(), Roles: opens, Level: Danger,
			Says: "{ports} connections to one destination at a time, TIME_WAITs counted. The next connect(2) fails with EADDRNOTAVAIL and sends " +
				"nothing.",
			Shown: rules("remedies-none", "refusal-client"),
		},
	}
}

func queueItems() []Item {
	const onlyCuts = "It only cuts the backlog that a program asks for by listen(2). Where that is smaller, the accept queue is as long as the " +
		"program says, whatever this is. "
	return []Item{
		{
			Sysctl: somaxconn, If: atLeast(4097), Roles: accepts, On: since(kernel.LongBacklog), Level: NoEffect,
			Says:  onlyCuts + "The default is 4096.",
			Shown: append(files("backlog-of-the-program.yaml"), Proof{Rule: "defaults-somaxconn-4096"}),
		},
		{
			Sysctl: somaxconn, If: atLeast(129), Roles: accepts, On: before(kernel.LongBacklog), Level: NoEffect,
			Says:  onlyCuts + "The default is 128.",
			Shown: append(files("backlog-of-the-program.yaml"), Proof{Rule: "defaults-somaxconn-128", Guest: "client"}),
		},
		{
			Sysctl: somaxconn, If: between(0, 4095), Roles: accepts, On: since(kernel.LongBacklog), Level: Danger,
			Says:  "It cuts every program's backlog to {value}, below the 4096 of this kernel. When an accept queue is full, SYNs are dropped.",
			Shown: append(files("backlog-of-the-program.yaml"), Proof{Rule: "refusal-queue"}),
		},
		{
			Sysctl: abort, If: atLeast(1), With: []With{{Sysctl: cookies, Values: atLeast(1)}}, Roles: accepts, Level: NoEffect,
			Says: "A connection that was made by a SYN cookie is not reset when the accept queue is full: the client goes on believing that it is " +
				"connected.",
			Shown: files("accept-queue-ghosts.yaml"),
		},
		{
			Sysctl: cookies, If: atLeast(1), Roles: accepts, Level: Note,
			Says:  "With a SYN cookie, a client whose last ACK finds the accept queue full is connected to nothing until there is room.",
			Shown: files("accept-queue-ghosts.yaml"),
		},
	}
}

func natItems() []Item {
	gateway := []topo.Role{topo.Gateway}
	return []Item{
		{
			Sysctl: timeWait, If: between(0, 59), Roles: gateway, Level: Danger,
			Says: "It is shorter than the 60 s of a TIME_WAIT at the other end. Another client that gets the port in between meets that " +
				"TIME_WAIT, which refuses its SYN at first if its timestamp or sequence number is older: half of them, where clients have no common clock.",
			Shown: rules("gateway-expired-older-timestamp", "gateway-expired-older-number", "share-clocks-of-hosts"),
		},
		{
			Sysctl: timeWait, If: between(61, 3600), Roles: gateway, Level: Note,
			Says:  "It is longer than the 60 s of a TIME_WAIT at the other end, so that no SYN of another client meets one.",
			Shown: rules("share-outlived"),
		},
		{
			Sysctl: closeWait, If: between(0, 59), Roles: gateway, Level: Danger,
			Says: "A connection of which one side has closed loses its entry after {value} s without a segment. The other side's next segment then " +
				"gets a RST from this gateway, and the client waits in FIN_WAIT2 without an error.",
			Shown: files("half-closed-too-long.yaml"),
		},
		{
			Sysctl: liberal, If: atLeast(1), Roles: gateway, Level: NoEffect,
			Says: "It is about windows. Where packets are INVALID because connection tracking sees only one way of a connection, it changes " +
				"nothing.",
			Shown: files("invalid-one-way.yaml"),
		},
	}
}
