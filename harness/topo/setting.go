package topo

import (
	"slices"
	"strings"
)

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
}

// Forwarding6 is the sysctl that lets a node forward IPv6 packets. It must be set when the
// node's links no longer have IFF_MULTICAST: on a link that has, the node then joins the
// group of all routers, which it reports by MLD (ipv6_add_dev, dev_forward_change).
const Forwarding6 = "net.ipv6.conf.all.forwarding"

// Common lists the sysctls of every node of the network before its own ones: the
// [Baseline], unless the network has none, and what its version of IP needs. New namespaces
// may have the machine's values of these (net.core.devconf_inherit_init_net). Links inherit
// those of conf.default when they are created.
func (n Network) Common() []Setting {
	var all []Setting
	if !n.NoBaseline {
		all = slices.Clone(Baseline)
	}
	if !n.IP.Has(IPv6) {
		// No multicast listener reports, no neighbour discovery and no router solicitations
		// on the links.
		return append(all, Setting{Name: "net.ipv6.conf.default.disable_ipv6", Value: "1"})
	}
	return append(all,
		Setting{Name: "net.ipv6.conf.all.disable_ipv6", Value: "0"},
		Setting{Name: "net.ipv6.conf.default.disable_ipv6", Value: "0"},
		Setting{Name: Forwarding6, Value: "0"},
		// No router solicitations from link-local addresses (addrconf_dad_completed). Without
		// such addresses there would be none either, but the write of addr_gen_mode keeps the
		// processor busy until the lock for links is free (addrconf_sysctl_addr_gen_mode,
		// restart_syscall).
		Setting{Name: "net.ipv6.conf.default.accept_ra", Value: "0"},
		// A link that goes down loses its IPv6 addresses (addrconf_ifdown).
		Setting{Name: "net.ipv6.conf.all.keep_addr_on_down", Value: "0"},
		Setting{Name: "net.ipv6.conf.default.keep_addr_on_down", Value: "0"},
	)
}

// Is reports whether value, as read from the sysctl, is the value of the setting.
func (s Setting) Is(value string) bool { return strings.Join(strings.Fields(s.Value), " ") == value }
