package recording

// The sysctls of [Node.Settings].
const (
	SYNRetries     = "net.ipv4.tcp_syn_retries"
	LinearTimeouts = "net.ipv4.tcp_syn_linear_timeouts"
	Timestamps     = "net.ipv4.tcp_timestamps"
	TimeWaitReuse  = "net.ipv4.tcp_tw_reuse"
	PortRange      = "net.ipv4.ip_local_port_range"
	ReservedPorts  = "net.ipv4.ip_local_reserved_ports"
	SYNCookies     = "net.ipv4.tcp_syncookies"
	MostWaiting    = "net.core.somaxconn"
	SYNBacklog     = "net.ipv4.tcp_max_syn_backlog"
)

// Settings lists them.
func Settings() []string {
	return []string{SYNRetries, LinearTimeouts, Timestamps, TimeWaitReuse, PortRange, ReservedPorts, SYNCookies, MostWaiting, SYNBacklog}
}
