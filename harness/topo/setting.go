package topo

import "strings"

// Setting is one sysctl on one node, or on every node of a role.
type Setting struct {
	Role  Role
	Node  string
	Name  string
	Value string
	// IfPresent skips the setting on a kernel that does not have the sysctl; otherwise a
	// missing sysctl is an error.
	IfPresent bool
}

// Settings is a list of sysctls, made by [On] and [OnNode].
type Settings []Setting

// On sets sysctls, each given as "name=value", on every node of a role.
func On(role Role, assignments ...string) Settings {
	return Settings(nil).On(role, assignments...)
}

// OnNode sets sysctls, each given as "name=value", on the node of that name.
func OnNode(name string, assignments ...string) Settings {
	return Settings(nil).OnNode(name, assignments...)
}

// On adds sysctls for every node of a role.
func (s Settings) On(role Role, assignments ...string) Settings {
	return s.add(Setting{Role: role}, assignments)
}

// OnNode adds sysctls for the node of that name.
func (s Settings) OnNode(name string, assignments ...string) Settings {
	return s.add(Setting{Node: name}, assignments)
}

func (s Settings) add(target Setting, assignments []string) Settings {
	for _, a := range assignments {
		target.Name, target.Value, _ = strings.Cut(a, "=")
		s = append(s, target)
	}
	return s
}

// Baseline lists the sysctls that every node has before the topology's own ones, so that a
// lab depends neither on the host's settings nor on a distribution's kernel: the mainline
// defaults, and no traffic of its own. A sysctl of the Baseline that the kernel does not
// have is skipped; a missing one that the topology sets is an error.
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
	{Name: "net.ipv4.tcp_max_syn_backlog", Value: "2048"},
	{Name: "net.ipv4.ip_local_port_range", Value: "32768 60999"},
	{Name: "net.core.somaxconn", Value: "4096"},

	// Routes are host routes, and a reply may leave through another link.
	{Name: "net.ipv4.conf.all.rp_filter", Value: "0"},
	{Name: "net.ipv4.conf.default.rp_filter", Value: "0"},
	// No neighbour discovery and no router solicitations on the links, which inherit this
	// when they are created.
	{Name: "net.ipv6.conf.default.disable_ipv6", Value: "1"},
}

// Is reports whether value, as read from the sysctl, is the value of the setting.
func (s Setting) Is(value string) bool { return strings.Join(strings.Fields(s.Value), " ") == value }

// SysctlsOf returns the sysctls of one node that override its baseline.
func (t Topology) SysctlsOf(who member) (own []Setting) {
	if who.Role == Gateway || who.Role == Balancer && t.Balancer.Kind == DNAT {
		own = append(own, Setting{Name: "net.ipv4.ip_forward", Value: "1"})
	}
	if who.Role == Balancer && t.Balancer.Program != nil {
		// A killed program closes its connections by a FIN, which gets no answer when the
		// lab ends too: without this setting the orphans would keep the namespace alive for
		// minutes (tcp_orphan_retries, 8 instead of 0).
		own = append(own, Setting{Name: "net.ipv4.tcp_orphan_retries", Value: "1", IfPresent: true})
	}
	for _, s := range t.Sysctls {
		if s.Role == who.Role || s.Node == who.Name {
			own = append(own, s)
		}
	}
	return own
}
