//go:build linux

package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is one row of the kernel's TCP socket table.
type Socket struct {
	State         string         // as include/net/tcp_states.h names it
	Local, Remote netip.AddrPort // as on the wire
	V6Only        bool           // IPV6_V6ONLY, of a socket that listens or is bound
}

// Missing reports whether an error means that this kernel cannot be asked (no sock_diag, or
// no CONFIG_INET_TCP_DIAG).
func Missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// OnPort lists the sockets with this local port, of both IP versions and in every state,
// TIME_WAIT among them. It reads all sockets of the namespace, and one that comes or goes
// meanwhile may be missing.
func (l *Lookup) OnPort(port uint16) ([]Socket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil, fmt.Errorf("list sockets: %w", os.ErrClosed)
	}
	var found []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		of, err := l.dump(family, port)
		if family == unix.AF_INET6 && Missing(err) {
			break // this kernel has no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets by sock_diag: %w", err)
		}
		found = append(found, of...)
	}
	return found, nil
}

// dump lists the sockets of one family.
func (l *Lookup) dump(family uint8, port uint16) (found []Socket, err error) {
	request := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	l.asked++
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(request[nlSequence:], l.asked)
	body := request[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], 1<<32-1) // any state
	if err := unix.Sendto(l.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	answer := make([]byte, 32<<10) // as much as one message of a dump has at most (netlink_dump)
	for {
		n, _, err := unix.Recvfrom(l.fd, answer, 0)
		if err != nil {
			return nil, err
		}
		more, done, err := rows(answer[:n], l.asked, port)
		if err != nil || done {
			return append(found, more...), err
		}
		found = append(found, more...)
	}
}

// rows reads one datagram of a dump.
func rows(answer []byte, asked uint32, port uint16) (found []Socket, done bool, err error) {
	for len(answer) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(answer))
		if length < unix.SizeofNlMsghdr || length > len(answer) {
			return nil, false, fmt.Errorf("message of %d bytes in %d", length, len(answer))
		}
		message := answer[:length]
		answer = answer[min(len(answer), (length+3)&^3):]
		if !answers(message, asked) {
			continue
		}
		body := message[unix.SizeofNlMsghdr:]
		switch binary.NativeEndian.Uint16(message[4:]) {
		case unix.NLMSG_DONE:
			if len(body) >= 4 && int32(binary.NativeEndian.Uint32(body)) < 0 { // netlink_dump_done
				return nil, true, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			}
			return found, true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return nil, false, fmt.Errorf("error of %d bytes", len(body))
			}
			return nil, false, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		default:
			if len(body) < diagMessageSize {
				return nil, false, fmt.Errorf("socket of %d bytes", len(body))
			}
			if s := parseRow(body); s.Local.Port() == port {
				found = append(found, s)
			}
		}
	}
	return found, false, nil
}

// parseRow reads a struct inet_diag_msg.
func parseRow(m []byte) Socket {
	id := m[4:] // struct inet_diag_sockid
	end := func(address, port int) netip.AddrPort {
		addr := netip.AddrFrom16([16]byte(id[address : address+16])).Unmap()
		if m[0] == unix.AF_INET {
			addr = netip.AddrFrom4([4]byte(id[address : address+4]))
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(id[port:]))
	}
	return Socket{
		State: stateName(m[diagMessageState]),
		Local: end(diagSource, diagSourcePort), Remote: end(diagPeer, diagPeerPort),
		V6Only: attribute(m[diagMessageSize:], diagV6Only) != 0,
	}
}

// diagV6Only is INET_DIAG_SKV6ONLY of include/uapi/linux/inet_diag.h.
const diagV6Only = 11

// attribute returns the first byte of an attribute (struct rtattr), or 0 when there is none.
func attribute(attributes []byte, number uint16) byte {
	for len(attributes) > unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < unix.SizeofRtAttr || length > len(attributes) {
			return 0
		}
		if binary.NativeEndian.Uint16(attributes[2:]) == number && length > unix.SizeofRtAttr {
			return attributes[unix.SizeofRtAttr]
		}
		attributes = attributes[min(len(attributes), (length+3)&^3):]
	}
	return 0
}

// states are the names of the states by their numbers (include/net/tcp_states.h). The last
// is a pseudo-state in which a socket is bound and nothing else.
var states = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "CLOSE",
}

func stateName(number uint8) string {
	if int(number) < len(states) && states[number] != "" {
		return states[number]
	}
	return fmt.Sprintf("state %d", number)
}
