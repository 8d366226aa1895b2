// Package counters is kernel counters by name, and their differences: plain data.
package counters

import (
	"maps"
	"slices"
	"strconv"
	"strings"
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
