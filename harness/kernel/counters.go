package kernel

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Counters maps the kernel's own name of a counter to its value, or to how much the value
// rose ([Counters.Sub]). Names are "TcpExt.PAWSTimewait", "Tcp.ActiveOpens",
// "IpExt.InNoRoutes" (group and column of /proc/net/snmp and /proc/net/netstat),
// "Ip6.OutNoRoutes", "Icmp6.InMsgs" (/proc/net/snmp6, with a dot after the 6) and
// "Conntrack.insert_failed" (the column of /proc/net/stat/nf_conntrack, summed over all
// CPUs).
//
// A namespace has one set of Tcp, TcpExt and Conntrack counters, which count IPv4 and IPv6
// together; of TcpExt only IPReversePathFilter and ArpFilter are of IPv4 alone. Ip, IpExt,
// Icmp and Udp count IPv4, Ip6, Icmp6 and Udp6 count IPv6. Neighbour discovery moves Ip6 and
// Icmp6 counters although nobody uses the node.
//
// A missing name is not zero: it means that this kernel does not count the event at all.
type Counters map[string]uint64

// Sub returns how much each counter rose since before. It leaves out a name that only one
// of the two has, and a name whose value fell: that is a gauge (Tcp.CurrEstab), not a
// counter. Counters that did not change are kept as zero.
func (c Counters) Sub(before Counters) Counters {
	diff := Counters{}
	for name, value := range c {
		if old, ok := before[name]; ok && value >= old {
			diff[name] = value - old
		}
	}
	return diff
}

// Moved returns the counters that are not zero.
func (c Counters) Moved() Counters {
	moved := Counters{}
	for name, value := range c {
		if value != 0 {
			moved[name] = value
		}
	}
	return moved
}

// String lists the counters in one line, sorted by name, as differences: "Conntrack.drop +3
// TcpExt.TW +1".
func (c Counters) String() string {
	parts := make([]string, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, name+" +"+strconv.FormatUint(c[name], 10))
	}
	return strings.Join(parts, " ")
}

// Counter is a kernel counter that rules use or drivers read: a column of /proc/net/snmp,
// /proc/net/netstat or /proc/net/stat/nf_conntrack, or a line of /proc/net/snmp6. Drivers read a counter through its
// variable, so that a misspelt one does not compile.
type Counter struct {
	Name string // as in /proc: "TcpExt.TW"
	// Means says in a few words what it counts; In is the range of mainline kernels that
	// have it, when not all do.
	Means string
	In    Span
}

// The counters that drivers read.
var (
	ResetsSent       = Counter{Name: "Tcp.OutRsts", Means: "RST segments sent"}
	ResetConnections = Counter{Name: "Tcp.EstabResets", Means: "connections that a RST ended in ESTABLISHED or CLOSE_WAIT (tcp_set_state)"}
	PassiveOpens     = Counter{Name: "Tcp.PassiveOpens", Means: "connections that were established at a listening socket"}
	AbortedOnData    = Counter{Name: "TcpExt.TCPAbortOnData", Means: "connections that close ended with a RST: SO_LINGER with 0 s, or unread data"}
	ListenOverflows  = Counter{Name: "TcpExt.ListenOverflows", Means: "segments dropped because the accept queue was full"}
	TimeWaits        = Counter{Name: "TcpExt.TW", Means: "TIME_WAITs"}
	TimeWaitsKilled  = Counter{Name: "TcpExt.TWKilled", Means: "TIME_WAITs whose timer was set to 4 s or less"}
	TimeWaitsReused  = Counter{Name: "TcpExt.TWRecycled", Means: "TIME_WAITs whose port connect or bind took over (tcp_tw_reuse)"}
	ChallengedSYNs   = Counter{Name: "TcpExt.TCPSYNChallenge", Means: "SYNs on a connection that were answered with a challenge ACK (RFC 5961)"}
	PAWSEstablished  = Counter{Name: "TcpExt.PAWSEstab", Means: "segments that a connection rejected for an older timestamp; up to 6.15 also segments that a TIME_WAIT rejected"}
	PAWSPassive      = Counter{
		Name: "TcpExt.PAWSPassive", Means: "SYNs that tcp_tw_recycle dropped", In: Span{Until: Mainline(4, 12)},
	}
	PAWSTimeWait = Counter{
		Name: "TcpExt.PAWSTimewait", Means: "segments that a TIME_WAIT rejected for an older timestamp (commit c449d5f3a3d7)", In: Span{From: Mainline(6, 16)},
	}
	NATClashes = Counter{Name: "Conntrack.insert_failed", Means: "packets dropped because their entry clashed with another one: no port was free"}
)

// KnownCounters returns all counters; the last ones are counters that only rules use.
func KnownCounters() []Counter {
	return []Counter{
		ResetsSent, ResetConnections, PassiveOpens, AbortedOnData, ListenOverflows, TimeWaits, TimeWaitsKilled, TimeWaitsReused, ChallengedSYNs,
		PAWSEstablished, PAWSPassive, PAWSTimeWait, NATClashes,
		{Name: "Tcp.InSegs", Means: "segments received"},
		{Name: "Tcp.RetransSegs", Means: "segments retransmitted"},
		{
			Name: "TcpExt.TCPACKSkippedTimeWait", Means: "ACKs of a TIME_WAIT that net.ipv4.tcp_invalid_ratelimit suppressed",
			In: Span{From: Mainline(4, 0)},
		},
		{Name: "TcpExt.ListenDrops", Means: "SYNs and last ACKs that a listening socket dropped, for any reason"},
		{Name: "TcpExt.TCPSynRetrans", Means: "SYNs and SYN-ACKs retransmitted"},
		{Name: "TcpExt.SyncookiesSent", Means: "SYNs that were answered by a SYN cookie"},
		{Name: "TcpExt.TCPReqQFullDrop", Means: "SYNs that were dropped because the queue of half-open connections was full, and tcp_syncookies was 0"},
		{Name: "TcpExt.TCPTimeWaitOverflow", Means: "TIME_WAITs that were not created because of tcp_max_tw_buckets"},
	}
}

// Of returns the value of the counter in read, or 0 when the kernel does not have it.
func (k Counter) Of(read Counters) int64 { return int64(read[k.Name]) }

// On reports whether the kernel from which read comes has the counter.
func (k Counter) On(read Counters) bool {
	_, has := read[k.Name]
	return has
}

// PAWSReject returns the name of the counter that rises when a socket in TIME_WAIT rejects
// a segment because of its timestamp (tcp_timewait_state_process). Until Linux 6.15 that is
// the counter of established connections; since commit c449d5f3a3d7 it is a separate one. c
// can be any counters read on that kernel.
func PAWSReject(c Counters) string {
	if PAWSTimeWait.On(c) {
		return PAWSTimeWait.Name
	}
	return PAWSEstablished.Name
}

// PAWSRejects returns the value of the counter that [PAWSReject] names.
func PAWSRejects(c Counters) int64 { return int64(c[PAWSReject(c)]) }
