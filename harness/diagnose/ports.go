package diagnose

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"twlab/harness/recording"
)

// heldPorts is how many of some ports sockets hold, by destination.
func heldPorts(sockets []recording.Socket, ports map[uint16]bool) map[netip.AddrPort]int {
	seen := map[ends]bool{}
	held := map[netip.AddrPort]int{}
	for _, s := range sockets {
		if way := (ends{s.Local, s.Remote}); ports[s.Local.Port()] && s.State != "LISTEN" && !seen[way] {
			seen[way] = true
			held[s.Remote]++
		}
	}
	return held
}

// aSource is how HAProxy is told from which ports to connect to a server.
var aSource = regexp.MustCompile(`(?m)^\s*server\s.*\ssource \S+:(\d+)-(\d+)`)

// sourcePorts are the ports from which a program is told to connect to a server; none if it is
// told no range.
func sourcePorts(configuration string) map[uint16]bool {
	told := aSource.FindStringSubmatch(configuration)
	if told == nil {
		return nil
	}
	first, errFirst := strconv.ParseUint(told[1], 10, 16)
	last, errLast := strconv.ParseUint(told[2], 10, 16)
	if errFirst != nil || errLast != nil {
		return nil
	}
	ports := map[uint16]bool{}
	for p := first; p <= last; p++ {
		ports[uint16(p)] = true //nolint:gosec // parsed as such
	}
	return ports
}

// takenPorts is how many of some ports sockets hold, whatever their destination is.
func takenPorts(sockets []recording.Socket, ports map[uint16]bool) int {
	taken := map[uint16]bool{}
	for _, s := range sockets {
		if ports[s.Local.Port()] {
			taken[s.Local.Port()] = true
		}
	}
	return len(taken)
}

// portsOf are the ports that the kernel of a node gives to its connections: its range without
// those that are reserved.
func portsOf(n recording.Node) (map[uint16]bool, error) {
	var first, last int
	if _, err := fmt.Sscan(n.Settings[recording.PortRange].Value, &first, &last); err != nil {
		return nil, fmt.Errorf("range of local ports: %w", err)
	}
	ports := map[uint16]bool{}
	for p := max(first, 0); p <= min(last, 65535); p++ {
		ports[uint16(p)] = true //nolint:gosec // within its limits
	}
	for _, part := range strings.FieldsFunc(n.Settings[recording.ReservedPorts].Value, func(r rune) bool { return r == ',' }) {
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if err := errors.Join(errA, errB); err != nil {
			return nil, fmt.Errorf("reserved ports: %w", err)
		}
		for p := a; p <= b && len(ports) > 0; p++ {
			delete(ports, uint16(p)) //nolint:gosec // parsed as such
		}
	}
	return ports, nil
}
