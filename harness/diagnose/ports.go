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

// ports is a set of ports: a range without those that are left out of it. A range may have all the
// ports that there are, and is asked for a few of them.
type ports struct {
	first, last int
	without     map[uint16]bool // all of them within the range
}

// has reports whether a port is in the set.
func (p ports) has(port uint16) bool {
	return p.first <= int(port) && int(port) <= p.last && !p.without[port]
}

// size is how many ports the set has.
func (p ports) size() int { return max(p.last-p.first+1, 0) - len(p.without) }

// heldPorts is how many of some ports sockets hold, by destination.
func heldPorts(sockets []recording.Socket, of ports) map[netip.AddrPort]int {
	seen := map[ends]bool{}
	held := map[netip.AddrPort]int{}
	for _, s := range sockets {
		if way := (ends{s.Local, s.Remote}); of.has(s.Local.Port()) && s.State != "LISTEN" && !seen[way] {
			seen[way] = true
			held[s.Remote]++
		}
	}
	return held
}

// aSource is how HAProxy is told from which ports to connect to a server.
var aSource = regexp.MustCompile(`(?m)^\s*server\s.*\ssource \S+:(\d+)-(\d+)`)

// sourcePorts are the ports from which a program is told to connect to a server; told is false if it
// is told no range.
func sourcePorts(configuration string) (of ports, told bool) {
	words := aSource.FindStringSubmatch(configuration)
	if words == nil {
		return ports{last: -1}, false
	}
	first, errFirst := strconv.ParseUint(words[1], 10, 16)
	last, errLast := strconv.ParseUint(words[2], 10, 16)
	if errFirst != nil || errLast != nil || first > last {
		return ports{last: -1}, false
	}
	return ports{first: int(first), last: int(last)}, true //nolint:gosec // parsed as such
}

// takenPorts is how many of some ports sockets hold, whatever their destination is.
func takenPorts(sockets []recording.Socket, of ports) int {
	taken := map[uint16]bool{}
	for _, s := range sockets {
		if of.has(s.Local.Port()) {
			taken[s.Local.Port()] = true
		}
	}
	return len(taken)
}

// portsOf are the ports that the kernel of a node gives to its connections: its range without
// those that are reserved.
func portsOf(n recording.Node) (ports, error) {
	none := ports{last: -1}
	of := ports{without: map[uint16]bool{}}
	if _, err := fmt.Sscan(n.Settings[recording.PortRange].Value, &of.first, &of.last); err != nil {
		return none, fmt.Errorf("range of local ports: %w", err)
	}
	of.first, of.last = max(of.first, 0), min(of.last, 65535)
	for _, part := range strings.FieldsFunc(n.Settings[recording.ReservedPorts].Value, func(r rune) bool { return r == ',' }) {
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if err := errors.Join(errA, errB); err != nil {
			return none, fmt.Errorf("reserved ports: %w", err)
		}
		for p := max(int(a), of.first); p <= min(int(b), of.last); p++ { //nolint:gosec // parsed as such
			of.without[uint16(p)] = true //nolint:gosec // within its limits
		}
	}
	return of, nil
}
