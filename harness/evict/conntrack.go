//go:build linux

package evict

import (
	"encoding/binary"
	"errors"
	"fmt"

	"twlab/harness/observe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States and flags of an entry: enum tcp_conntrack and enum ip_conntrack_status of
// include/uapi/linux/netfilter.
const (
	stateEstablished = 3
	stateLastACK     = 6

	statusFixedTimeout = 1 << 10
)

// entry is the state and the flags of a connection's entry.
type entry struct {
	state  uint8
	status uint32
}

// mark fixes the timeout of the packet's connection if the packet ends it.
func (p *Prevention) mark(packet packet) error {
	if !packet.from.IsValid() {
		return nil
	}
	e, found, err := p.look(packet.ends)
	if err == nil && !found && packet.forward {
		// A packet of the reply direction has its final destination by now; no entry starts
		// with that.
		packet.ends = ends{packet.to, packet.from}
		e, found, err = p.look(packet.ends)
	}
	if err != nil || !found || e.status&statusFixedTimeout != 0 {
		return err // fixed: a repeated FIN, or a RST after both
	}
	switch {
	case packet.forward && e.state == stateLastACK:
		return p.fix(packet.ends, e, p.timeWait)
	case !packet.forward && stateEstablished <= e.state && e.state <= stateLastACK:
		return p.fix(packet.ends, e, p.closed)
	default: // a first FIN, or a RST that ends no connection, such as the answer to a challenge ACK
		return nil
	}
}

// fix makes the entry stay for this many seconds, whatever packets follow.
func (p *Prevention) fix(tuple ends, e entry, seconds uint32) error {
	request := p.entryRequest(nl.IPCTNL_MSG_CT_NEW, tuple)
	// ctnetlink sets the timeout before the flag: once the flag is set, the timeout cannot
	// be changed.
	request.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, binary.BigEndian.AppendUint32(nil, seconds)))
	request.AddData(nl.NewRtAttr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, e.status|statusFixedTimeout)))
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("fix the timeout of %v > %v: %w", tuple.from, tuple.to, err)
	}
	return nil
}

// look finds the entry that has these ends in one of its directions.
func (p *Prevention) look(tuple ends) (e entry, found bool, err error) {
	messages, err := p.entryRequest(nl.IPCTNL_MSG_CT_GET, tuple).Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("look up conntrack entry %v > %v: %w", tuple.from, tuple.to, err)
	}
	for _, m := range messages {
		if e, err = parseEntry(m); err != nil {
			return e, false, fmt.Errorf("conntrack entry %v > %v: %w", tuple.from, tuple.to, err)
		}
		found = true
	}
	return e, found, nil
}

func (p *Prevention) entryRequest(message int, tuple ends) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, unix.NLM_F_ACK)
	request.Sockets = p.conntrack
	family := uint8(unix.AF_INET)
	if tuple.from.Addr().Is6() {
		family = unix.AF_INET6
	}
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	request.AddData(observe.TupleAttribute(nl.CTA_TUPLE_ORIG, observe.Tuple{Src: tuple.from, Dst: tuple.to}))
	return request
}

// parseEntry reads the flags and the state of a TCP entry.
func parseEntry(message []byte) (e entry, err error) {
	status, err := attribute(message[min(len(message), nl.SizeofNfgenmsg):], nl.CTA_STATUS)
	if err != nil {
		return e, err
	}
	if len(status) != 4 {
		return e, fmt.Errorf("status of %d bytes", len(status))
	}
	e.status = binary.BigEndian.Uint32(status)
	inner := message[nl.SizeofNfgenmsg:]
	for _, kind := range []uint16{nl.CTA_PROTOINFO, nl.CTA_PROTOINFO_TCP, nl.CTA_PROTOINFO_TCP_STATE} {
		if inner, err = attribute(inner, kind); err != nil {
			return e, err
		}
	}
	if len(inner) != 1 {
		return e, fmt.Errorf("state of %d bytes", len(inner))
	}
	e.state = inner[0]
	return e, nil
}

// attribute finds one attribute.
func attribute(in []byte, kind uint16) ([]byte, error) {
	attributes, err := nl.ParseRouteAttr(in)
	if err != nil {
		return nil, fmt.Errorf("split netlink attributes: %w", err)
	}
	for _, a := range attributes {
		if a.Attr.Type&nl.NLA_TYPE_MASK == kind {
			return a.Value, nil
		}
	}
	return nil, fmt.Errorf("no attribute %d", kind)
}
