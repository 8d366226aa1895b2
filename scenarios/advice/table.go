package advice

import (
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// The sysctls of several items.
const (
	timestamps = "net.ipv4.tcp_timestamps"
	twReuse    = "net.ipv4.tcp_tw_reuse"
	twRecycle  = "net.ipv4.tcp_tw_recycle"
	reuseDelay = "net.ipv4.tcp_tw_reuse_delay"
	finTimeout = "net.ipv4.tcp_fin_timeout"
	twBuckets  = "net.ipv4.tcp_max_tw_buckets"
	rfc1337    = "net.ipv4.tcp_rfc1337"
	portRange  = "net.ipv4.ip_local_port_range"
	reserved   = "net.ipv4.ip_local_reserved_ports"
	cookies    = "net.ipv4.tcp_syncookies"
	abort      = "net.ipv4.tcp_abort_on_overflow"
	somaxconn  = "net.core.somaxconn"
	timeWait   = "net.netfilter.nf_conntrack_tcp_timeout_time_wait"
	closeWait  = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
	liberal    = "net.netfilter.nf_conntrack_tcp_be_liberal"
)

// Who opens connections, and who accepts them. A balancer does both.
var (
	opens   = []topo.Role{topo.Client, topo.Balancer}
	accepts = []topo.Role{topo.Balancer, topo.Server}
	ends    = []topo.Role{topo.Client, topo.Balancer, topo.Server}
)

// Items lists all pieces of advice.
func Items() []Item {
	return slices.Concat(timestampItems(), reuseItems(), recycleItems(), timeWaitItems(), portItems(), queueItems(), natItems())
}

func timestampItems() []Item {
	return []Item{
		{
			Sysctl: timestamps, If: exactly(0), Roles: accepts, Level: NoEffect,
			Says: "It does not keep SYNs of clients behind a NAT from being refused. Without timestamps a TIME_WAIT compares initial " +
				"sequence numbers, which are as random: of the SYNs that meet one, half are refused at first, as before.",
			Shown: rules("chance-by-number", "share-numbers"),
		},
		{
			Sysctl: timestamps, If: exactly(0), With: []With{{Sysctl: twReuse, Unset: true}}, Roles: ends, Level: Danger,
			Says: "It takes tcp_tw_reuse from both sides of every connection: a TIME_WAIT whose connection had no timestamps is never " +
				"reused, whichever side turned them off.",
			Shown: rules("exhaustion-no-timestamps", "proxyports-no-timestamps"),
		},
		{
			Sysctl: timestamps, If: exactly(1), Roles: []topo.Role{topo.Client}, On: since(kernel.OffsetPerPort), Level: Danger,
			Says: "Each connection has a timestamp clock of its own. Behind a NAT that gives a port again within 60 s, half of the SYNs that meet " +
				"a TIME_WAIT are refused at first, even if this client is alone. tcp_timestamps=2 gives all its connections one clock.",
			Shown: rules("chance-one-host-many-offsets", "chance-one-host-one-clock"),
		},
		{
			Sysctl: timestamps, If: exactly(2), On: before(kernel.TimestampsMode2), Level: NoEffect,
			Says:  "The value 2 (no random offset) exists since Linux 4.10. Here it is the same as 1, and there is no offset anyway.",
			Shown: guest("client", "clock-jiffies"),
		},
	}
}

func reuseItems() []Item {
	on, delayed := exactly(1), since(kernel.ReuseDelay)
	return []Item{
		{
			Sysctl: twReuse, If: on, With: []With{{Sysctl: timestamps, Values: exactly(0)}}, Roles: opens, Level: Contradiction,
			Says: "Line {line} turns timestamps off, and a TIME_WAIT whose connection had no timestamps is never reused: connect(2) goes on " +
				"failing with EADDRNOTAVAIL.",
			Shown: rules("exhaustion-no-timestamps", "proxyports-no-timestamps"),
		},
		{
			Sysctl: twReuse, If: on, Roles: []topo.Role{topo.Server}, Level: NoEffect,
			Says: "Only connect(2) reads it. The TIME_WAITs of connections that this host accepted are as many with it as without, and " +
				"clients that come back get in either way.",
			Shown: files("reuse-on-a-server.yaml"),
		},
		{
			Sysctl: twReuse, If: on, With: []With{{Sysctl: timestamps, Values: atLeast(1)}}, Roles: opens, Level: Note,
			Says: "connect(2) may take the port of a TIME_WAIT that is old enough, if timestamps are on at the other side, too. No TIME_WAIT " +
				"goes away by it.",
			Shown: rules("exhaustion-reused", "exhaustion-no-timestamps"),
		},
		{
			Sysctl: twReuse, If: exactly(2), On: since(kernel.LoopbackReuse), Roles: opens, Level: Note,
			Says:  "This is for loopback addresses only. Towards another host it is the same as 0.",
			Shown: rules("exhaustion-reuse-loopback-only"),
		},
		{
			Sysctl: twReuse, If: exactly(2), On: before(kernel.LoopbackReuse), Roles: opens, Level: Danger,
			Says:  "The value 2 (loopback only) exists since Linux 4.19. Here it is the same as 1: on, towards all hosts.",
			Shown: []Proof{{Rule: "exhaustion-reused", Guest: "client"}},
		},
		{
			Sysctl: reuseDelay, If: atLeast(1), With: []With{{Sysctl: twReuse, Values: exactly(0)}}, Roles: opens, On: delayed, Level: NoEffect,
			Says:  "tcp_tw_reuse is off, so that nothing waits for this age.",
			Shown: rules("exhaustion-reuse-off"),
		},
		{
			Sysctl: reuseDelay, If: atLeast(1), With: []With{{Sysctl: twReuse, Values: exactly(2)}}, Roles: opens, On: delayed, Level: NoEffect,
			Says:  "tcp_tw_reuse is 2, so that this counts for loopback addresses only.",
			Shown: rules("exhaustion-reuse-loopback-only"),
		},
		{
			Sysctl: reuseDelay, If: atLeast(1), With: []With{{Sysctl: twReuse, Values: exactly(1)}}, Roles: opens, On: delayed, Level: Note,
			Says:  "A port serves one connection to the same destination in {value} ms, when this host closes first.",
			Shown: rules("ceiling-client"),
		},
	}
}

// recycleItems are about kernels before 4.12; since then the history says that it is gone.
func recycleItems() []Item {
	on, old, withTimestamps := atLeast(1), since(kernel.PassivePAWS), []With{{Sysctl: timestamps, Values: atLeast(1)}}
	without := []With{{Sysctl: timestamps, Values: exactly(0)}}
	return []Item{
		{
			Sysctl: twRecycle, If: on, With: withTimestamps, Roles: accepts, On: old, Level: Danger,
			Says: "For 60 s after a connection that this host closed first, it drops every SYN of the same address whose timestamp is older, " +
				"and answers nothing. Of all clients behind one NAT only those with the newest clock get in.",
			Shown: guest("balancer", "recycle-older-dropped"),
		},
		{
			Sysctl: twRecycle, If: on, With: without, Roles: accepts, On: old, Level: Contradiction,
			Says:  "Line {line} turns timestamps off, and without them it neither shortens TIME_WAIT nor remembers an address.",
			Shown: guest("balancer", "recycle-useless-balancer"),
		},
		{
			Sysctl: twRecycle, If: on, With: without, Roles: []topo.Role{topo.Client}, On: old, Level: Contradiction,
			Says:  "Line {line} turns timestamps off, and without them it does not shorten TIME_WAIT.",
			Shown: guest("client", "recycle-useless-client"),
		},
		{
			Sysctl: twRecycle, If: on, With: withTimestamps, Roles: []topo.Role{topo.Client}, On: old, Level: Note,
			Says:  "TIME_WAITs of this host last 3.5 retransmission timeouts instead of 60 s, if the connection had timestamps.",
			Shown: guest("client", "recycle-client-short"),
		},
	}
}

func timeWaitItems() []Item {
	const refusedForGood = "A TIME_WAIT that refuses a SYN is ended by the client's RST, and the client's next SYN gets in. With this, the RST is " +
		"ignored: "
	return []Item{
		{
			Sysctl: finTimeout, If: between(0, 59), Roles: ends, Level: NoEffect,
			Says: "It does not shorten TIME_WAIT, which lasts 60 s whatever it says. It is how long a closed socket waits in FIN_WAIT2 for the " +
				"FIN of the other side.",
			Shown: rules("length-over-port-free", "length-fin-timeout-5"),
		},
		{
			Sysctl: finTimeout, If: atLeast(61), Roles: ends, Level: NoEffect,
			Says:  "It does not lengthen TIME_WAIT, which lasts 60 s whatever it says. It lengthens FIN_WAIT2.",
			Shown: rules("length-over-port-free", "length-fin-timeout-120"),
		},
		{
			Sysctl: twBuckets, If: exactly(0), Roles: ends, Level: Danger,
			Says:  "No TIME_WAIT is created at all: a connection that this host closes first is gone at once, and its port is free.",
			Shown: rules("exhaustion-overflow"),
		},
		{
			// A thousand closes in a second is what one busy host reaches.
			Sysctl: twBuckets, If: between(1, 60000), Roles: ends, Level: Danger,
			Says: "A host with {value} TIME_WAITs creates no more, and {each-second} closes per second make so many. A further connection that it " +
				"closes first is gone at once, without the 60 s.",
			Shown: rules("exhaustion-overflow", "length-over"),
		},
		{
			Sysctl: twBuckets, If: exactly(180000), Roles: ends, Level: Note,
			Says: "180000 is the default of kernels of long ago. It is half the size of the socket hash table now, which depends on the memory.",
			Shown: []Proof{
				{Rule: "defaults-tcp-max-tw-buckets-half-the-hash", On: since(kernel.EhashEntries)},
				{Rule: "defaults-tcp-max-tw-buckets-by-memory", On: before(kernel.EhashEntries), Guest: "client"},
			},
		},
		{
			Sysctl: rfc1337, If: atLeast(1), With: []With{{Sysctl: timestamps, Values: atLeast(1)}}, Roles: accepts, Level: Danger,
			Says:  refusedForGood + "behind a NAT, a client whose timestamp is older does not get in for as long as it tries (ETIMEDOUT).",
			Shown: rules("tuple-older-timestamp-blocked"),
		},
		{
			Sysctl: rfc1337, If: atLeast(1), With: []With{{Sysctl: timestamps, Values: exactly(0)}}, Roles: accepts, On: before(kernel.RSTRestarts), Level: Danger,
			Says:  refusedForGood + "a client whose sequence number is older does not get in until the 60 s are over.",
			Shown: rules("tuple-older-number-blocked"),
		},
		{
			Sysctl: rfc1337, If: atLeast(1), With: []With{{Sysctl: timestamps, Values: exactly(0)}}, Roles: accepts, On: since(kernel.RSTRestarts), Level: Danger,
			Says:  refusedForGood + "a client whose sequence number is older does not get in for as long as it tries (ETIMEDOUT).",
			Shown: guest("balancer", "tuple-older-number-blocked-for-good"),
		},
	}
}
