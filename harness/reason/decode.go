//go:build linux

package reason

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"twlab/harness/observe"
)

// decode reads what the record says of packets and ends. ok is false for what is not TCP, and
// for a fragment that has no TCP header.
func decode(b []byte) (e Event, ok bool, err error) {
	if len(b) < recordSize {
		return e, false, fmt.Errorf("a record of %d bytes, want %d", len(b), recordSize)
	}
	headers := b[recordHeaders : recordHeaders+recordedHeader]
	switch kind := binary.NativeEndian.Uint32(b[recordKind:]); kind {
	case kindDrop:
		e.Kind = Drop
	case kindReset:
		e.Kind = Reset
	case kindUnasked:
		e.Kind, e.Unasked = Reset, true
		e.Src, e.Dst = socketEnds(b, headers)
		return e, true, nil
	default:
		return e, false, fmt.Errorf("a record of kind %d", kind)
	}
	switch {
	case headers[0]>>4 == 4 && headers[9] == unix.IPPROTO_TCP && binary.BigEndian.Uint16(headers[6:])&0x1fff == 0:
		at := int(headers[0]&0x0f) * 4
		if at < 20 || at+20 > len(headers) {
			return e, false, nil
		}
		src, dst := netip.AddrFrom4([4]byte(headers[12:])), netip.AddrFrom4([4]byte(headers[16:]))
		e.segment(src, dst, headers[at:], int(binary.BigEndian.Uint16(headers[2:]))-at)
	case headers[0]>>4 == 6 && headers[6] == unix.IPPROTO_TCP:
		src, dst := netip.AddrFrom16([16]byte(headers[8:])), netip.AddrFrom16([16]byte(headers[24:]))
		e.segment(src, dst, headers[40:], int(binary.BigEndian.Uint16(headers[4:])))
	default:
		return e, false, nil
	}
	return e, true, nil
}

// segment reads a TCP header; length is that of the segment with it.
func (e *Event) segment(src, dst netip.Addr, tcp []byte, length int) {
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	e.Seq, e.Ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	e.Flags = observe.Flags(tcp[13])
	e.Payload = max(0, length-int(tcp[12]>>4)*4)
}

// socketEnds reads both ends of a socket.
func socketEnds(b, addresses []byte) (local, remote netip.AddrPort) {
	localPort, remotePort := binary.BigEndian.Uint16(b[recordLocal:]), binary.BigEndian.Uint16(b[recordRemote:])
	if binary.NativeEndian.Uint16(b[recordFamily:]) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses)).Unmap(), localPort),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses[16:])).Unmap(), remotePort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses)), localPort),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses[16:])), remotePort)
}
