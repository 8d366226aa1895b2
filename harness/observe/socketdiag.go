//go:build linux

package observe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Message, sizes and offsets of include/uapi/linux/inet_diag.h: struct inet_diag_req and
// struct inet_diag_msg, and in the latter struct inet_diag_sockid.
const (
	getSockets = 18 // TCPDIAG_GETSOCK

	diagRequestSize   = 60
	diagRequestStates = 52

	diagMessageSize   = 72
	diagMessageState  = 1
	diagMessageTimer  = 2
	diagLocalPort     = 4
	diagRemotePort    = 6
	diagLocal         = 8
	diagRemote        = 24
	diagExpires       = 52
	diagReceiveQueue  = 56
	diagTransmitQueue = 60

	attributeV6Only = 11 // INET_DIAG_SKV6ONLY
)

// diagRequest asks for the sockets of both versions in one pass over the table: the request
// of kernels before 3.3, which names no version (inet_diag_dump_compat).
type diagRequest struct{}

// Len returns the length of the request.
func (diagRequest) Len() int { return diagRequestSize }

// Serialize returns the request: sockets in every state.
func (diagRequest) Serialize() []byte {
	request := make([]byte, diagRequestSize)
	binary.NativeEndian.PutUint32(request[diagRequestStates:], 1<<32-1)
	return request
}

// sockDiag lists the sockets once. It is not netlink.SocketDiagTCP, because that lists one
// version and omits the attributes.
func sockDiag() (Sockets, error) {
	messages, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(getSockets, unix.NLM_F_DUMP)
		request.AddData(diagRequest{})
		return request.Execute(unix.NETLINK_INET_DIAG, getSockets)
	})
	if err != nil {
		return nil, err
	}
	sockets := make(Sockets, len(messages))
	for i, m := range messages {
		if sockets[i], err = parseDiag(m); err != nil {
			return nil, err
		}
	}
	return sockets, nil
}

// parseDiag reads struct inet_diag_msg and the attributes after it.
func parseDiag(m []byte) (Socket, error) {
	attributes, err := parseAttributes(m, diagMessageSize)
	if err != nil {
		return Socket{}, err
	}
	state, known := stateNamed(m[diagMessageState])
	family := m[0]
	if !known || family != unix.AF_INET && family != unix.AF_INET6 {
		return Socket{}, fmt.Errorf("socket of family %d in state %d is not understood", family, m[diagMessageState])
	}
	address := func(at int) netip.Addr {
		if family == unix.AF_INET {
			return netip.AddrFrom4([4]byte(m[at:]))
		}
		return netip.AddrFrom16([16]byte(m[at:])).Unmap()
	}
	timer := timerNamed(m[diagMessageTimer])
	s := Socket{
		State:     state,
		Local:     netip.AddrPortFrom(address(diagLocal), binary.BigEndian.Uint16(m[diagLocalPort:])),
		Remote:    netip.AddrPortFrom(address(diagRemote), binary.BigEndian.Uint16(m[diagRemotePort:])),
		Timer:     timer,
		Expires:   expires(timer, int64(int32(binary.NativeEndian.Uint32(m[diagExpires:]))), time.Millisecond),
		RecvQueue: binary.NativeEndian.Uint32(m[diagReceiveQueue:]),
		SendQueue: binary.NativeEndian.Uint32(m[diagTransmitQueue:]),
		V6:        family == unix.AF_INET6,
	}
	for _, a := range attributes {
		if a.kind == attributeV6Only && len(a.value) == 1 {
			s.V6Only = a.value[0] != 0
		}
	}
	return s, nil
}
