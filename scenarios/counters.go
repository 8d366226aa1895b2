package scenarios

import (
	"fmt"
	"slices"

	"twlab/harness/observe"
)

// counter is one of the kernel's counters that rules speak of or drivers read: a column
// of /proc/net/snmp, /proc/net/netstat or /proc/net/stat/nf_conntrack. Drivers read a
// counter by its variable, so that a misspelt one does not compile.
type counter struct {
	name string
	// means is what it counts, in a few words; in is where mainline kernels have it,
	// when that is not everywhere.
	means string
	in    Span
}

var (
	resetsSent       = counter{name: "Tcp.OutRsts", means: "RST segments sent"}
	resetConnections = counter{name: "Tcp.EstabResets", means: "connections that a RST ended in ESTABLISHED or CLOSE_WAIT (tcp_set_state)"}
	passiveOpens     = counter{name: "Tcp.PassiveOpens", means: "connections that came about at a listening socket"}
	abortedOnData    = counter{name: "TcpExt.TCPAbortOnData", means: "connections that close ended by a RST: linger of 0 s, or data that nobody had read"}
	listenOverflows  = counter{name: "TcpExt.ListenOverflows", means: "segments dropped because the accept queue was full"}
	timeWaits        = counter{name: "TcpExt.TW", means: "TIME_WAITs"}
	timeWaitsKilled  = counter{name: "TcpExt.TWKilled", means: "TIME_WAITs whose timer was set to 4 s or less"}
	timeWaitsReused  = counter{name: "TcpExt.TWRecycled", means: "TIME_WAITs whose port connect or bind took over (tcp_tw_reuse)"}
	challengedSYNs   = counter{name: "TcpExt.TCPSYNChallenge", means: "SYNs on a connection that were answered by a challenge ACK (RFC 5961)"}
	pawsEstablished  = counter{name: "TcpExt.PAWSEstab", means: "segments rejected for an older timestamp, on a connection, and until 6.15 by a TIME_WAIT"}
	pawsPassive      = counter{
		name: "TcpExt.PAWSPassive", means: "SYNs that tcp_tw_recycle dropped", in: Span{Until: mainline(4, 12)},
	}
	pawsTimeWait = counter{
		name: "TcpExt.PAWSTimewait", means: "segments that a TIME_WAIT rejected for an older timestamp (commit c449d5f3a3d7)", in: Span{From: mainline(6, 16)},
	}
	natClashes = counter{name: "Conntrack.insert_failed", means: "packets dropped because their entry clashed with another's: no port was free"}
)

// knownCounters are all of them; the last ones are counters that only rules speak of.
func knownCounters() []counter {
	return []counter{
		resetsSent, resetConnections, passiveOpens, abortedOnData, listenOverflows, timeWaits, timeWaitsKilled, timeWaitsReused, challengedSYNs,
		pawsEstablished, pawsPassive, pawsTimeWait, natClashes,
		{name: "Tcp.InSegs", means: "segments received"},
		{name: "Tcp.RetransSegs", means: "segments sent again"},
		{
			name: "TcpExt.TCPACKSkippedTimeWait", means: "ACKs of a TIME_WAIT that net.ipv4.tcp_invalid_ratelimit suppressed",
			in: Span{From: mainline(4, 0)},
		},
		{name: "TcpExt.ListenDrops", means: "SYNs and last ACKs that a listening socket dropped, for whatever reason"},
		{name: "TcpExt.TCPSynRetrans", means: "SYNs and SYN-ACKs sent again"},
		{name: "TcpExt.TCPTimeWaitOverflow", means: "TIME_WAITs that tcp_max_tw_buckets did not let come about"},
	}
}

// knownCounter is an error for a name that is not in the list.
func knownCounter(name string) error {
	var names []string
	for _, c := range knownCounters() {
		names = append(names, c.name)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("%q is none of the known counters%s; add it to knownCounters in scenarios/counters.go", name, perhaps(name, names))
}

// of is the counter's number in those that were read on a kernel, and 0 where the
// kernel does not have it.
func (k counter) of(read observe.Counters) int64 { return int64(read[k.name]) }

// on tells whether the kernel that they were read on has the counter.
func (k counter) on(read observe.Counters) bool {
	_, has := read[k.name]
	return has
}

// PAWSReject is the counter of a kernel that rises when a socket in TIME_WAIT
// rejects a segment for its timestamp (tcp_timewait_state_process). Until Linux
// 6.15 that is the counter of established connections; commit c449d5f3a3d7 gave
// it one of its own. The counters are any that were read on that kernel.
func PAWSReject(c observe.Counters) string {
	if pawsTimeWait.on(c) {
		return pawsTimeWait.name
	}
	return pawsEstablished.name
}

// pawsRejects is the number of the counter that [PAWSReject] names.
func pawsRejects(c observe.Counters) int64 { return int64(c[PAWSReject(c)]) }
