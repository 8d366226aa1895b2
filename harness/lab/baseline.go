package lab

import (
	"errors"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/ns"
)

// Baseline is what every node has before the topology's own sysctls, so that a
// lab depends neither on the host's settings nor on a distribution's kernel: the
// mainline defaults, and quiet. A sysctl that the kernel does not have is passed
// over here; one that a topology asks for is an error there.
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

	// Routes are host routes, and a reply may leave by another link.
	{Name: "net.ipv4.conf.all.rp_filter", Value: "0"},
	{Name: "net.ipv4.conf.default.rp_filter", Value: "0"},
	// No neighbour discovery and no router solicitations on the links, which
	// inherit this when they are made.
	{Name: "net.ipv6.conf.default.disable_ipv6", Value: "1"},
}

// baselineDifferences is the part of Baseline that a new namespace does not have
// by itself. All new namespaces start alike, so one of them tells, and Build
// writes only these: to open a file below /proc/sys/net costs time in proportion
// to the number of namespaces, because their entries of one name share a hash
// chain (proc_sys_compare).
func baselineDifferences() (different []Setting, err error) {
	fresh, err := ns.New()
	if err != nil {
		return nil, fmt.Errorf("look at a new namespace: %w", err)
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	err = fresh.Do(func() error {
		for _, s := range Baseline {
			value, err := kernel.ReadSysctl(s.Name)
			if absent(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at a new namespace: %w", err)
			}
			if value != s.Value {
				different = append(different, s)
			}
		}
		return nil
	})
	return different, err
}
