package lab

// Baseline is what Build sets on every node before anything else, so that a lab
// does not depend on the host's settings or on a distribution's kernel: the
// mainline defaults, and quiet. A sysctl that the node's kernel does not have is
// passed over here; one that a topology asks for is an error there.
var Baseline = []Setting{
	// Mainline defaults of Linux 6.14 and later (net/ipv4/tcp_ipv4.c,
	// tcp_sk_init).
	{Name: "net.ipv4.tcp_timestamps", Value: "1"},
	{Name: "net.ipv4.tcp_tw_reuse", Value: "2"},
	{Name: "net.ipv4.tcp_tw_reuse_delay", Value: "1000"},
	{Name: "net.ipv4.tcp_max_tw_buckets", Value: "131072"},
	{Name: "net.ipv4.tcp_rfc1337", Value: "0"},
	{Name: "net.ipv4.tcp_fin_timeout", Value: "60"},
	{Name: "net.ipv4.tcp_invalid_ratelimit", Value: "500"},
	{Name: "net.ipv4.tcp_syn_retries", Value: "6"},
	{Name: "net.ipv4.tcp_syn_linear_timeouts", Value: "4"},
	{Name: "net.ipv4.tcp_syncookies", Value: "1"},
	{Name: "net.ipv4.tcp_max_syn_backlog", Value: "4096"},
	{Name: "net.ipv4.ip_local_port_range", Value: "32768 60999"},
	{Name: "net.core.somaxconn", Value: "4096"},

	// Routes are host routes, and a reply may leave by another link.
	{Name: "net.ipv4.conf.all.rp_filter", Value: "0"},
	{Name: "net.ipv4.conf.default.rp_filter", Value: "0"},
	// No neighbour discovery, no router solicitations in a capture.
	{Name: "net.ipv6.conf.all.disable_ipv6", Value: "1"},
	{Name: "net.ipv6.conf.default.disable_ipv6", Value: "1"},
}
