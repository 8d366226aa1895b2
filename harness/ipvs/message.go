//go:build linux

package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"twlab/harness/topo"
)

// The commands and attributes of the family IPVS (include/uapi/linux/ip_vs.h).
const (
	familyName    = "IPVS"
	familyVersion = 1

	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8

	attrService = 1
	attrDest    = 2

	serviceFamily    = 1
	serviceProtocol  = 2
	serviceAddr      = 3
	servicePort      = 4
	serviceScheduler = 6
	serviceFlags     = 7
	serviceTimeout   = 8
	serviceNetmask   = 9

	destAddr     = 1
	destPort     = 2
	destForward  = 3
	destWeight   = 4
	destUpper    = 5
	destLower    = 6
	destActive   = 7
	destInactive = 8
	destStats    = 10

	statsConnections = 1

	forwardMasquerade = 0 // IP_VS_CONN_F_MASQ
)

// conversation is the generic netlink family IPVS of the namespace of this thread.
type conversation struct{ family uint16 }

// open finds the family. The kernel loads the module when it can: genl_ctrl asks for
// "net-pf-16-proto-16-family-IPVS".
func open() (conversation, error) {
	f, err := netlink.GenlFamilyGet(familyName)
	switch {
	case errors.Is(err, unix.ENOENT):
		return conversation{}, ErrMissing
	case err != nil:
		return conversation{}, fmt.Errorf("look for the netlink family %s: %w", familyName, err)
	}
	return conversation{f.ID}, nil
}

// ask sends one command and returns the answers.
func (c conversation) ask(command uint8, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	request := nl.NewNetlinkRequest(int(c.family), flags)
	request.AddData(&nl.Genlmsg{Command: command, Version: familyVersion})
	for _, a := range attrs {
		request.AddData(a)
	}
	return request.Execute(unix.NETLINK_GENERIC, 0)
}

// dump reads a whole table. A dump during which the table changed is made again.
func (c conversation) dump(command uint8, attrs ...*nl.RtAttr) (all [][]byte, err error) {
	const tries = 10
	for range tries {
		all, err = c.ask(command, unix.NLM_F_DUMP, attrs...)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// tell sends one command and waits for its acknowledgement.
func (c conversation) tell(command uint8, attrs ...*nl.RtAttr) error {
	_, err := c.ask(command, unix.NLM_F_ACK, attrs...)
	return err
}

func nested(kind int) *nl.RtAttr { return nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil) }

// union is an address as union nf_inet_addr has it: 16 bytes, of which IPv4 uses the first 4.
func union(a netip.Addr) []byte {
	whole := make([]byte, 16)
	copy(whole, a.AsSlice())
	return whole
}

func familyOf(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// name names a service; with whole it has all that the kernel wants of a new one.
func name(s topo.VirtualService, whole bool) *nl.RtAttr {
	a := nested(attrService)
	a.AddRtAttr(serviceFamily, nl.Uint16Attr(familyOf(s.At.Addr())))
	a.AddRtAttr(serviceProtocol, nl.Uint16Attr(unix.IPPROTO_TCP))
	a.AddRtAttr(serviceAddr, union(s.At.Addr()))
	a.AddRtAttr(servicePort, nl.BEUint16Attr(s.At.Port()))
	if !whole {
		return a
	}
	a.AddRtAttr(serviceScheduler, nl.ZeroTerminated(s.SchedulerName()))
	a.AddRtAttr(serviceFlags, make([]byte, 8)) // struct ip_vs_flags: no flag is set, none is changed
	a.AddRtAttr(serviceTimeout, nl.Uint32Attr(0))
	mask := ^uint32(0) // each client by itself
	if s.At.Addr().Is6() {
		mask = 128 // here a length (ip_vs_genl_parse_service)
	}
	a.AddRtAttr(serviceNetmask, nl.Uint32Attr(mask))
	return a
}

// describe describes a destination; the kernel wants all of it, except to delete it.
func describe(d topo.Destination, whole bool) *nl.RtAttr {
	a := nested(attrDest)
	a.AddRtAttr(destAddr, union(d.At.Addr()))
	a.AddRtAttr(destPort, nl.BEUint16Attr(d.At.Port()))
	if whole {
		a.AddRtAttr(destForward, nl.Uint32Attr(forwardMasquerade))
		a.AddRtAttr(destWeight, nl.Uint32Attr(d.Weight))
		a.AddRtAttr(destUpper, nl.Uint32Attr(0))
		a.AddRtAttr(destLower, nl.Uint32Attr(0))
	}
	return a
}

// fields are the attributes within the one attribute of a message.
func fields(message []byte, kind uint16) (map[uint16][]byte, error) {
	if len(message) < nl.SizeofGenlmsg {
		return nil, fmt.Errorf("a message of %d bytes", len(message))
	}
	outer, err := attributes(message[nl.SizeofGenlmsg:])
	if err != nil {
		return nil, err
	}
	return attributes(outer[kind])
}

func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, fmt.Errorf("attributes: %w", err)
	}
	all := map[uint16][]byte{}
	for _, a := range list {
		all[a.Attr.Type&^syscall.NLA_F_NESTED] = a.Value
	}
	return all, nil
}

// address reads an address of a family, and a port.
func address(family uint16, addr, port []byte) (netip.AddrPort, error) {
	if len(addr) != 16 || len(port) != 2 {
		return netip.AddrPort{}, fmt.Errorf("an address of %d bytes, a port of %d: want 16 and 2", len(addr), len(port))
	}
	a := netip.AddrFrom16([16]byte(addr))
	if family == unix.AF_INET {
		a = netip.AddrFrom4([4]byte(addr[:4]))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)), nil
}

// number reads a number that the kernel writes in its own byte order; 0 when it is not there.
func number(b []byte) uint32 {
	switch len(b) {
	case 2:
		return uint32(nl.NativeEndian().Uint16(b))
	case 4:
		return nl.NativeEndian().Uint32(b)
	default:
		return 0
	}
}
