//go:build linux

package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Occupancy says how many entries the tables of a network namespace hold, as the kernel
// itself counts them, IPv4 and IPv6 together. Unlike a list of sockets or flows, it costs the same however many
// there are, and it removes nothing: an expired conntrack entry is counted until the kernel
// comes across it (nf_ct_is_expired, gc_worker).
type Occupancy struct {
	// TimeWait counts minisockets (/proc/net/sockstat, "tw"): TIME_WAIT, and FIN_WAIT2
	// without an owner. Linux before 4.11 counts those of all namespaces.
	TimeWait int `json:"timeWait"`
	// Sockets counts the TCP sockets in the hash table ("inuse" of /proc/net/sockstat and
	// sockstat6): all except minisockets and requests.
	Sockets int `json:"sockets"`
	// Flows counts conntrack entries of every protocol, as net.netfilter.nf_conntrack_count
	// does; 0 where there is no connection tracking.
	Flows int `json:"flows"`
}

// ReadOccupancy reads the calling thread's network namespace.
func ReadOccupancy() (o Occupancy, err error) {
	if err := o.readSockstat(); err != nil {
		return o, err
	}
	if o.Flows, err = countFlows(); err != nil {
		return o, fmt.Errorf("count flows: %w", err)
	}
	return o, nil
}

// readSockstat reads the counts of sockets. Minisockets of both versions are counted in one
// number (inet_timewait_sock), sockets in one for each version, because IPv6 sockets have a
// struct proto of their own (tcpv6_prot).
func (o *Occupancy) readSockstat() error {
	for _, name := range []string{"sockstat", "sockstat6"} {
		data, path, err := readProcNet(name)
		if errors.Is(err, fs.ErrNotExist) && name == "sockstat6" {
			return nil // no IPv6
		}
		if err != nil {
			return err
		}
		if err := o.parse(string(data)); err != nil {
			return fmt.Errorf("parse %s: %w", path, err)
		}
	}
	return nil
}

// parse adds the numbers of the line "TCP: inuse 3 orphan 0 tw 12 alloc 3 mem 1"
// (sockstat_seq_show) or "TCP6: inuse 2" (sockstat6_seq_show).
func (o *Occupancy) parse(text string) error {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "TCP:" && words[0] != "TCP6:" {
			continue
		}
		numbers := map[string]int{}
		for i := 1; i+1 < len(words); i += 2 {
			n, err := strconv.Atoi(words[i+1])
			if err != nil {
				return fmt.Errorf("%s: %w", words[i], err)
			}
			numbers[words[i]] = n
		}
		inuse, known := numbers["inuse"]
		tw, counted := numbers["tw"]
		if !known || !counted && words[0] == "TCP:" {
			return fmt.Errorf("no inuse and tw in %q", strings.TrimSpace(line))
		}
		o.Sockets += inuse
		o.TimeWait += tw
		return nil
	}
	return errors.New("no line of TCP")
}

// getStatistics is IPCTNL_MSG_CT_GET_STATS of enum cntl_msg_types.
const getStatistics = 5

// countFlows asks ctnetlink (Linux 3.6, IPCTNL_MSG_CT_GET_STATS). Reading the same number
// below /proc/sys/net costs time in proportion to the number of namespaces.
func countFlows() (int, error) {
	const entries = 1 // enum ctattr_stats_global
	answers, err := conntrackRequest(getStatistics, unix.NLM_F_ACK, unix.AF_UNSPEC).Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return 0, nil // no conntrack in this kernel, or no ctnetlink
	}
	if err != nil {
		return 0, err
	}
	for _, answer := range answers {
		attributes, err := parseAttributes(answer, nl.SizeofNfgenmsg)
		if err != nil {
			return 0, err
		}
		for _, a := range attributes {
			if a.kind == entries {
				n, err := number(a, 4)
				return int(n), err
			}
		}
	}
	return 0, errors.New("ctnetlink reported no number of entries")
}
