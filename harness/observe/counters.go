package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"twlab/harness/kernel"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ReadCounters reads the counters of the calling thread's network namespace. Those of
// /proc/net/snmp6 are absent where there is no IPv6.
//
// The Conntrack names are absent on a kernel without ctnetlink (Linux 3.6 and later have
// what this function needs). Reading them needs CAP_NET_ADMIN in the user namespace that
// owns the network namespace; without it the error is EPERM.
func ReadCounters() (kernel.Counters, error) {
	counters := kernel.Counters{}
	for _, name := range []string{"snmp", "netstat"} {
		data, path, err := readProcNet(name)
		if err != nil {
			return nil, err
		}
		if err := parseCounters(counters, string(data), path); err != nil {
			return nil, err
		}
	}
	if err := readIPv6Counters(counters); err != nil {
		return nil, err
	}
	if err := readConntrackStatistics(counters); err != nil {
		return nil, fmt.Errorf("read conntrack statistics: %w", err)
	}
	return counters, nil
}

// parseCounters adds the two-line tables of /proc/net/snmp and /proc/net/netstat
// (net/ipv4/proc.c): a line "Tcp: ActiveOpens ..." with the names, and a line "Tcp: 12 ..."
// with as many values. A negative value is not a count but a setting without limit
// (Tcp.MaxConn -1); it is left out.
func parseCounters(c kernel.Counters, text, file string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines)%2 != 0 {
		return fmt.Errorf("parse %s: line %d: names without a line of values (truncated?)", file, len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		group, names, ok := strings.Cut(lines[i], ":")
		if !ok {
			return fmt.Errorf("parse %s: line %d: no group name in %q", file, i+1, lines[i])
		}
		again, values, _ := strings.Cut(lines[i+1], ":")
		name, value := strings.Fields(names), strings.Fields(values)
		if group != again || len(name) != len(value) {
			return fmt.Errorf("parse %s: line %d: %d values of %q do not fit the %d names of %q above",
				file, i+2, len(value), again, len(name), group)
		}
		for j := range name {
			if strings.HasPrefix(value[j], "-") {
				continue
			}
			n, err := strconv.ParseUint(value[j], 10, 64)
			if err != nil {
				return fmt.Errorf("parse %s: line %d: value of %s.%s: %w", file, i+2, group, name[j], err)
			}
			c[group+"."+name[j]] = n
		}
	}
	return nil
}

func readIPv6Counters(c kernel.Counters) error {
	data, path, err := readProcNet("snmp6")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no IPv6
	}
	if err != nil {
		return err
	}
	return parseIPv6Counters(c, string(data), path)
}

// parseIPv6Counters adds the lines of /proc/net/snmp6 (snmp6_seq_show): "Ip6OutNoRoutes 12"
// is Ip6.OutNoRoutes. The groups are Ip6, Icmp6, Udp6 and UdpLite6.
func parseIPv6Counters(c kernel.Counters, text, file string) error {
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words := strings.Fields(line)
		if len(words) != 2 {
			return fmt.Errorf("parse %s: line %d: %d words, want a name and a value", file, i+1, len(words))
		}
		group, name, found := strings.Cut(words[0], "6")
		if !found {
			return fmt.Errorf("parse %s: line %d: no group with a 6 in %q", file, i+1, words[0])
		}
		n, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			return fmt.Errorf("parse %s: line %d: value of %s: %w", file, i+1, words[0], err)
		}
		c[group+"6."+name] = n
	}
	return nil
}

// Message and attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h
// that the netlink package does not name: IPCTNL_MSG_CT_GET_STATS_CPU and
// enum ctattr_stats_cpu.
const getStatsCPU = 4

func conntrackStatistic(attribute uint16) (name string, ok bool) {
	switch attribute {
	case 2:
		return "Conntrack.found", true
	case 4:
		return "Conntrack.invalid", true
	case 8:
		return "Conntrack.insert", true
	case 9:
		return "Conntrack.insert_failed", true
	case 10:
		return "Conntrack.drop", true
	case 11:
		return "Conntrack.early_drop", true
	case 12:
		return "Conntrack.error", true
	case 13:
		return "Conntrack.search_restart", true
	case 14:
		return "Conntrack.clash_resolve", true
	case 15:
		return "Conntrack.chaintoolong", true
	default: // counted by no supported kernel any more, or not known yet
		return "", false
	}
}

// readConntrackStatistics adds the statistics of all CPUs. Every kernel with ctnetlink
// reports them, while /proc/net/stat/nf_conntrack needs an option of its own
// (CONFIG_NF_CONNTRACK_PROCFS).
func readConntrackStatistics(c kernel.Counters) error {
	const message = unix.NFNL_SUBSYS_CTNETLINK<<8 | getStatsCPU
	perCPU, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(message, unix.NLM_F_DUMP)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
		return request.Execute(unix.NETLINK_NETFILTER, message)
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return nil // no nfnetlink in this kernel, or no ctnetlink behind it
	}
	if err != nil {
		return err
	}
	for _, data := range perCPU {
		attributes, err := parseAttributes(data, nl.SizeofNfgenmsg)
		if err != nil {
			return err
		}
		for _, a := range attributes {
			name, ok := conntrackStatistic(a.kind)
			if !ok {
				continue
			}
			if len(a.value) != 4 {
				return fmt.Errorf("%s has %d bytes, want 4", name, len(a.value))
			}
			c[name] += uint64(binary.BigEndian.Uint32(a.value))
		}
	}
	return nil
}
