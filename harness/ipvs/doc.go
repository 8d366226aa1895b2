// Package ipvs makes a node's kernel a balancer of TCP connections by IPVS: virtual services in
// NAT mode.
//
// The kernel is asked over generic netlink (include/uapi/linux/ip_vs.h). Its sysctls are below
// net.ipv4.vs: whoever wants that connection tracking sees its connections sets
// net.ipv4.vs.conntrack and has a rule, or topo.Always, that turns tracking on.
package ipvs
