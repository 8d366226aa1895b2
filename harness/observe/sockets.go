//go:build linux

package observe

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State is a TCP state, with the kernel's name (include/net/tcp_states.h).
type State string

// The states. NewSynRecv is internal to the kernel since Linux 4.1; both
// sock_diag and /proc/net/tcp report such a request as SynRecv.
const (
	Established State = "ESTABLISHED"
	SynSent     State = "SYN_SENT"
	SynRecv     State = "SYN_RECV"
	FinWait1    State = "FIN_WAIT1"
	FinWait2    State = "FIN_WAIT2"
	TimeWait    State = "TIME_WAIT"
	Close       State = "CLOSE"
	CloseWait   State = "CLOSE_WAIT"
	LastAck     State = "LAST_ACK"
	Listen      State = "LISTEN"
	Closing     State = "CLOSING"
	NewSynRecv  State = "NEW_SYN_RECV"
)

// Timer is the timer that a socket waits for (idiag_timer in sock_diag(7)).
type Timer string

// The timers.
const (
	TimerNone       Timer = "none"
	TimerRetransmit Timer = "retransmit" // a segment, or the SYN-ACK of a request
	TimerKeepalive  Timer = "keepalive"  // keepalive, or the end of a full socket's FIN_WAIT2
	TimerTimeWait   Timer = "timewait"   // the end of a minisocket, see Socket.Mini
	TimerProbe      Timer = "probe"      // zero window probe
)

// Socket is one row of the kernel's TCP socket table.
type Socket struct {
	State  State          `json:"state"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Timer  Timer          `json:"timer"`
	// Expires is the time until the timer fires; its resolution is 1 ms from sock_diag and
	// 10 ms from /proc. It is zero without a timer.
	Expires time.Duration `json:"expires"`
	// RecvQueue is the number of bytes not yet read; for a listener, the number of
	// connections not yet accepted.
	RecvQueue uint32 `json:"recvQueue"`
	// SendQueue is the number of bytes not yet acknowledged; for a listener, the maximum
	// number of connections waiting for accept (zero from /proc, which does not show it).
	SendQueue uint32 `json:"sendQueue"`
}

// Mini reports whether only a minisocket is left (struct inet_timewait_sock). That is so
// for TIME_WAIT, and also for a connection in FIN_WAIT2 without an owner (tcp_time_wait
// with state TCP_FIN_WAIT2). The state alone does not distinguish the two kinds of
// FIN_WAIT2.
func (s Socket) Mini() bool { return s.Timer == TimerTimeWait }

// String describes the socket in one line:
// "TIME_WAIT 10.0.0.2:40001 > 10.0.0.1:80 timewait 59.98s".
func (s Socket) String() string {
	text := fmt.Sprintf("%s %s > %s", s.State, s.Local, s.Remote)
	if s.Timer != TimerNone {
		text += fmt.Sprintf(" %s %s", s.Timer, s.Expires)
	}
	return text
}

// Sockets is a socket table.
type Sockets []Socket

// In returns the sockets in a state.
func (s Sockets) In(state State) Sockets {
	return s.where(func(one Socket) bool { return one.State == state })
}

// Between returns the sockets with these ends. In each end, the unspecified or an invalid
// address matches any address and port 0 any port.
func (s Sockets) Between(local, remote netip.AddrPort) Sockets {
	return s.where(func(one Socket) bool { return covers(local, one.Local) && covers(remote, one.Remote) })
}

func (s Sockets) where(keep func(Socket) bool) Sockets {
	var kept Sockets
	for _, one := range s {
		if keep(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// covers reports whether the pattern matches the end: an invalid or unspecified address
// matches every address, port 0 every port.
func covers(pattern, end netip.AddrPort) bool {
	address, port := pattern.Addr(), pattern.Port()
	return (!address.IsValid() || address.IsUnspecified() || address == end.Addr()) &&
		(port == 0 || port == end.Port())
}

// ReadSockets lists the TCP sockets over IPv4 of the calling thread's network namespace, in
// every state, including minisockets and half-open requests. It asks sock_diag (Linux 3.3
// and CONFIG_INET_TCP_DIAG), and reads /proc/net/tcp when that is not available.
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

// tally counts as /proc/net/sockstat does, which leaves out requests.
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

// ends identifies a socket: no two sockets of one namespace have the same ends.
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

func sockDiag() (Sockets, error) {
	found, err := dump(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(unix.AF_INET) })
	if err != nil {
		return nil, err
	}
	sockets := make(Sockets, 0, len(found))
	for _, f := range found {
		local, okLocal := netip.AddrFromSlice(f.ID.Source.To4())
		remote, okRemote := netip.AddrFromSlice(f.ID.Destination.To4())
		state, okState := stateNamed(f.State)
		if !okLocal || !okRemote || !okState {
			return nil, fmt.Errorf("socket with state %d, local %v, remote %v is not understood", f.State, f.ID.Source, f.ID.Destination)
		}
		timer := timerNamed(f.Timer)
		sockets = append(sockets, Socket{
			State:     state,
			Local:     netip.AddrPortFrom(local, f.ID.SourcePort),
			Remote:    netip.AddrPortFrom(remote, f.ID.DestinationPort),
			Timer:     timer,
			Expires:   expires(timer, int64(int32(f.Expires)), time.Millisecond),
			RecvQueue: f.RQueue,
			SendQueue: f.WQueue,
		})
	}
	return sockets, nil
}

func procSockets() (Sockets, error) {
	data, path, err := readProcNet("tcp")
	if err != nil {
		return nil, err
	}
	return parseSockets(string(data), path)
}

// parseSockets reads /proc/net/tcp (tcp4_seq_show). The columns used are
// "sl local_address rem_address st tx_queue:rx_queue tr:tm->when".
func parseSockets(text, file string) (Sockets, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	sockets := make(Sockets, 0, len(lines))
	for i, line := range lines {
		if i == 0 { // titles
			continue
		}
		one, err := parseSocket(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("parse %s: line %d: %w", file, i+1, err)
		}
		sockets = append(sockets, one)
	}
	return sockets, nil
}

func parseSocket(column []string) (Socket, error) {
	if len(column) < 6 {
		return Socket{}, fmt.Errorf("%d columns, want 6 or more (truncated?)", len(column))
	}
	local, err := parseEnd(column[1])
	if err != nil {
		return Socket{}, err
	}
	remote, err := parseEnd(column[2])
	if err != nil {
		return Socket{}, err
	}
	number, err := strconv.ParseUint(column[3], 16, 8)
	if err != nil {
		return Socket{}, fmt.Errorf("state: %w", err)
	}
	state, ok := stateNamed(uint8(number))
	if !ok {
		return Socket{}, fmt.Errorf("state %d is not known", number)
	}
	send, receive, err := parsePair(column[4], 32)
	if err != nil {
		return Socket{}, fmt.Errorf("queues: %w", err)
	}
	kind, ticks, err := parsePair(column[5], 64)
	if err != nil {
		return Socket{}, fmt.Errorf("timer: %w", err)
	}
	// The kernel scales to clock ticks for user space, USER_HZ = 100.
	const tick = 10 * time.Millisecond
	timer := timerNamed(uint8(kind))
	return Socket{
		State: state, Local: local, Remote: remote,
		Timer: timer, Expires: expires(timer, int64(ticks), tick),
		RecvQueue: uint32(receive), SendQueue: uint32(send),
	}, nil
}

// parseEnd reads "0100007F:0050": the address is the network order bytes, printed as an
// integer of the machine's own byte order, and the port is a number.
func parseEnd(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 {
		return netip.AddrPort{}, fmt.Errorf("address %q is not 8 hexadecimal digits and a port", text)
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port of %q: %w", text, err)
	}
	var bytes [4]byte
	binary.NativeEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(raw))
	return netip.AddrPortFrom(netip.AddrFrom4(bytes), uint16(number)), nil
}

func parsePair(text string, bits int) (first, second uint64, err error) {
	left, right, _ := strings.Cut(text, ":")
	if first, err = strconv.ParseUint(left, 16, bits); err != nil {
		return 0, 0, err
	}
	second, err = strconv.ParseUint(right, 16, bits)
	return first, second, err
}

func stateNamed(number uint8) (State, bool) {
	states := [...]State{
		1: Established, SynSent, SynRecv, FinWait1, FinWait2, TimeWait,
		Close, CloseWait, LastAck, Listen, Closing, NewSynRecv,
	}
	if number == 0 || int(number) >= len(states) {
		return "", false
	}
	return states[number], true
}

func timerNamed(number uint8) Timer {
	switch number {
	case 0:
		return TimerNone
	case 1:
		return TimerRetransmit
	case 2:
		return TimerKeepalive
	case 3:
		return TimerTimeWait
	case 4:
		return TimerProbe
	default:
		return Timer("timer " + strconv.Itoa(int(number)))
	}
}

// expires turns into 0 the small negative number that old kernels report for a timer that
// is due but has not run yet.
func expires(timer Timer, count int64, unit time.Duration) time.Duration {
	if timer == TimerNone {
		return 0
	}
	return time.Duration(max(count, 0)) * unit
}
