//go:build linux

package observe

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ReadSockets lists the TCP sockets over IPv4 and IPv6 of the calling thread's network
// namespace, in every state, including minisockets and half-open requests. It asks
// sock_diag (Linux 3.3 and CONFIG_INET_TCP_DIAG), and reads /proc/net/tcp and /proc/net/tcp6
// when that is not available.
//
// One dump may miss a socket that has not changed at all, or list it twice: the kernel
// continues within a hash chain by position (inet_diag_dump_icsk, established_get_first),
// and a socket that comes or goes before that position shifts all that follow. So the list
// is compared with the kernel's own count of sockets, or else with a second list, and read
// again when they differ. When sockets come and go during every try, only the number of
// minisockets is certain.
func ReadSockets() (Sockets, error) {
	return settledSockets(dumpSockets, func() (o Occupancy, err error) {
		return o, o.readSockstat()
	})
}

// socketTries limits how often the list of sockets is read again while it equals neither
// the kernel's count nor the previous list.
const socketTries = 20

func settledSockets(dump func() (Sockets, error), count func() (Occupancy, error)) (Sockets, error) {
	var last, counted Sockets
	for range socketTries {
		list, err := dump()
		if err != nil {
			return nil, err
		}
		list = list.withoutTwins()
		full, err := count()
		if err != nil {
			return nil, fmt.Errorf("count sockets: %w", err)
		}
		minis, owned := list.tally()
		if minis == full.TimeWait && owned == full.Sockets || last != nil && list.sameAs(last) {
			return list, nil
		}
		if minis == full.TimeWait {
			counted = list
		}
		last = list
	}
	if counted != nil {
		return counted, nil
	}
	return last, nil
}

// tally counts as /proc/net/sockstat and sockstat6 do, which leave out requests.
func (s Sockets) tally() (minis, owned int) {
	for _, one := range s {
		switch {
		case one.Mini():
			minis++
		case one.State != SynRecv:
			owned++
		}
	}
	return minis, owned
}

// ends identifies a socket: no two sockets of one namespace have the same ends, except
// for link-local addresses of several links, of which one is then listed.
type ends struct{ local, remote netip.AddrPort }

// withoutTwins removes duplicates from the list and keeps the one that was read last.
// Listeners may share their port (SO_REUSEPORT) and are all kept.
func (s Sockets) withoutTwins() Sockets {
	at := make(map[ends]int, len(s))
	kept := make(Sockets, 0, len(s))
	for _, one := range s {
		if one.State == Listen || one.State == Close {
			kept = append(kept, one)
			continue
		}
		key := ends{one.Local, one.Remote}
		if i, twice := at[key]; twice {
			kept[i] = one
			continue
		}
		at[key] = len(kept)
		kept = append(kept, one)
	}
	return kept
}

// sameAs reports whether both lists have the same sockets in the same states.
func (s Sockets) sameAs(other Sockets) bool {
	if len(s) != len(other) {
		return false
	}
	states := make(map[ends]State, len(other))
	for _, one := range other {
		states[ends{one.Local, one.Remote}] = one.State
	}
	for _, one := range s {
		if states[ends{one.Local, one.Remote}] != one.State {
			return false
		}
	}
	return true
}

// dumpSockets reads the table once.
func dumpSockets() (Sockets, error) {
	sockets, err := sockDiag()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return procSockets()
	}
	if err != nil {
		return nil, fmt.Errorf("dump sockets by sock_diag: %w", err)
	}
	return sockets, nil
}
