package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Counters maps the kernel's own name of a counter to its value, or to how much
// the value rose ([Counters.Sub]). Names are "TcpExt.PAWSTimewait",
// "Tcp.ActiveOpens", "IpExt.InNoRoutes" (group and column of /proc/net/snmp and
// /proc/net/netstat) and "Conntrack.insert_failed" (the column of
// /proc/net/stat/nf_conntrack, summed over all CPUs).
//
// Absent is not zero: a name is missing when this kernel does not count the
// event at all.
type Counters map[string]uint64

// ReadCounters reads the counters of the calling thread's network namespace.
//
// The Conntrack names are absent from a kernel without ctnetlink (Linux 3.6 and
// later have what is asked for). Reading them needs CAP_NET_ADMIN in the user
// namespace that owns the network namespace; without it the error is EPERM.
func ReadCounters() (Counters, error) {
	counters := Counters{}
	for _, name := range []string{"snmp", "netstat"} {
		data, path, err := readProcNet(name)
		if err != nil {
			return nil, err
		}
		if err := counters.parse(string(data), path); err != nil {
			return nil, err
		}
	}
	if err := counters.readConntrack(); err != nil {
		return nil, fmt.Errorf("read conntrack statistics: %w", err)
	}
	return counters, nil
}

// Sub returns by how much each counter rose since before. A name that only one
// of the two has is left out, and so is one whose value fell: it is a gauge
// (Tcp.CurrEstab), not a counter. Counters that stood still are kept as zero.
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

// String lists a difference in one line, sorted by name:
// "Conntrack.drop +3 TcpExt.TW +1".
func (c Counters) String() string {
	parts := make([]string, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, name+" +"+strconv.FormatUint(c[name], 10))
	}
	return strings.Join(parts, " ")
}

// parse adds the two-line tables of /proc/net/snmp and /proc/net/netstat
// (net/ipv4/proc.c): a line "Tcp: ActiveOpens ..." with the names, and a line
// "Tcp: 12 ..." with as many values. A negative value is a setting without
// limit (Tcp.MaxConn -1), not a count; it is left out.
func (c Counters) parse(text, file string) error {
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

// readConntrack adds the statistics of each CPU. ctnetlink tells them on every
// kernel that has it, while /proc/net/stat/nf_conntrack is an option of its own
// (CONFIG_NF_CONNTRACK_PROCFS).
func (c Counters) readConntrack() error {
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
