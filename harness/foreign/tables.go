package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// mostTable is the size of the largest table of counters that is read.
const mostTable = 1 << 20

// ErrNoCounters means that a file is not what nstat or conntrack -S prints.
var ErrNoCounters = errors.New("there are no counters in it")

// groups are the groups of counters, as nstat writes them before the name; those that begin
// with another one come first.
var groups = []string{"TcpExt", "IpExt", "Tcp", "IcmpMsg", "Icmp6", "Icmp", "Ip6", "Ip", "UdpLite6", "UdpLite", "Udp6", "Udp", "MPTcpExt"}

// ReadNstat reads what nstat prints (-a with all values since the boot, -z with those that are
// zero, -j as JSON), with the names that recordings have: "TcpExt.ListenOverflows".
func ReadNstat(from io.Reader) (map[string]uint64, error) {
	text, err := table(from)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		var by map[string]map[string]float64
		if err := json.Unmarshal(text, &by); err != nil {
			return nil, fmt.Errorf("%w: nstat -j prints other JSON", ErrNoCounters)
		}
		for _, counters := range by {
			for name, value := range counters {
				if name, known := named(name); known && value >= 0 {
					all[name] = uint64(value)
				}
			}
		}
	} else {
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) < 2 || words[0][0] == '#' {
				continue
			}
			value, err := strconv.ParseUint(words[1], 10, 64)
			if name, known := named(words[0]); known && err == nil {
				all[name] = value
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: want what nstat -az prints", ErrNoCounters)
	}
	return all, nil
}

// named is the name of a counter of nstat in recordings.
func named(name string) (string, bool) {
	for _, g := range groups {
		if rest, is := strings.CutPrefix(name, g); is && rest != "" && !strings.ContainsFunc(rest, func(r rune) bool { return r < '0' || r > 'z' }) {
			return g + "." + rest, true
		}
	}
	return "", false
}

// ReadConntrack reads what conntrack -S prints, summed over all processors:
// "Conntrack.insert_failed".
func ReadConntrack(from io.Reader) (map[string]uint64, error) {
	text, err := table(from)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "cpu=") {
			continue
		}
		for _, word := range strings.Fields(line)[1:] {
			name, value, _ := strings.Cut(word, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err == nil && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
				all["Conntrack."+name] += n
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: want what conntrack -S prints (not -L)", ErrNoCounters)
	}
	return all, nil
}

func table(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, mostTable+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostTable:
		return nil, fmt.Errorf("%w: it is larger than 1 MiB", ErrNoCounters)
	case !utf8.Valid(text):
		return nil, fmt.Errorf("%w: it is not a text", ErrNoCounters)
	}
	return text, nil
}
