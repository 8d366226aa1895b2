//go:build linux

// Package evict stops a NAT of the running kernel from evicting: from reusing the port of
// an ended connection before its conntrack timeout ends.
//
// Linux has done that since 6.5 when it finds no free port (nf_nat_used_tuple_harder,
// commit 4589725502871). A gateway that stands for a product of another make must not do
// it: with eviction there is no ceiling of ports/timeout connections per second.
//
// Eviction skips an entry with a fixed timeout (IPS_FIXED_TIMEOUT). No rule can set that
// flag, not even a timeout policy (xt_CT): only ctnetlink can. So the FINs and RSTs of the
// gateway's connections wait in a queue (NFQUEUE) until their entry has the flag. The
// kernel evicts only entries in TIME_WAIT or CLOSE. A second FIN makes an entry LAST_ACK
// and is queued after that; a RST makes it CLOSE and is queued before that. So the entry of
// an ended connection can be evicted at no moment.
package evict

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
)

// Rule is a rule that sends packets to the queue, for iptables and, where connections are
// over IPv6, for ip6tables. Spec is what follows `iptables -t Table -A Chain`.
type Rule struct{ Table, Chain, Spec string }

// Rules returns the rules that the gateway needs. Without a [Prevention] they let the
// packets pass.
func Rules() []Rule {
	to := fmt.Sprintf(" -j NFQUEUE --queue-num %d --queue-bypass", queue)
	return []Rule{
		{"raw", "PREROUTING", "-p tcp --tcp-flags RST RST" + to},
		{"mangle", "FORWARD", "-p tcp --tcp-flags FIN FIN" + to},
	}
}

// queue is the number of the queue. A namespace has its own.
const queue = 0

// Prevention stops one namespace from evicting. Make one with [Prevent].
type Prevention struct {
	packets   *nl.NetlinkSocket        // the queue
	conntrack map[int]*nl.SocketHandle // of ctnetlink
	// How long an entry stays after both FINs, and after a RST; in seconds.
	timeWait, closed uint32

	stopped chan struct{}
	work    sync.WaitGroup
	err     error // why it ended before stop
	closing sync.Once
}

// Prevent starts a Prevention in the network namespace in which inside runs functions; that
// namespace must have [Rules]. From now on the entry of a connection stays after its second
// FIN for as long as net.netfilter.nf_conntrack_tcp_timeout_time_wait says now, or after a
// RST for as long as ..._close says, whatever packets follow. Only a SYN of the same client
// from the same port ends it before, as it always does (nf_conntrack_tcp_packet).
//
// It needs CAP_NET_ADMIN, CONFIG_NETFILTER_NETLINK_QUEUE and CONFIG_NF_CT_NETLINK. The
// caller must Close the Prevention.
func Prevent(inside func(func() error) error) (*Prevention, error) {
	p := &Prevention{stopped: make(chan struct{})}
	if err := inside(p.open); err != nil {
		if p.packets != nil {
			p.packets.Close()
		}
		p.closeConntrack()
		return nil, fmt.Errorf("prevent eviction: %w", err)
	}
	p.work.Go(p.serve)
	return p, nil
}

// open opens both sockets in the calling thread's namespace and binds the queue.
func (p *Prevention) open() (err error) {
	for _, timeout := range []struct {
		of string
		to *uint32
	}{{"time_wait", &p.timeWait}, {"close", &p.closed}} {
		text, err := kernel.ReadSysctl("net.netfilter.nf_conntrack_tcp_timeout_" + timeout.of)
		if err != nil {
			return err
		}
		seconds, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("conntrack timeout: %w", err)
		}
		*timeout.to = uint32(seconds)
	}
	conntrack, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open ctnetlink: %w", err)
	}
	p.conntrack = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: conntrack}}
	if p.packets, err = nl.Subscribe(unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("open the queue: %w", err)
	}
	// A full queue drops the packet, and the sender repeats its FIN: this is not an error.
	if err := unix.SetsockoptInt(p.packets.GetFd(), unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return fmt.Errorf("set NETLINK_NO_ENOBUFS: %w", err)
	}
	if err := p.bind(); err != nil {
		return fmt.Errorf("bind queue %d (CONFIG_NETFILTER_NETLINK_QUEUE): %w", queue, err)
	}
	return nil
}

// Messages and attributes of include/uapi/linux/netfilter/nfnetlink_queue.h.
const (
	subsystemQueue = 3

	messageVerdict = 1
	messageConfig  = 2

	configCommand   = 1
	configParams    = 2
	configMaxLength = 3
	commandBind     = 1
	copyPacket      = 2

	packetHeader  = 1
	packetPayload = 10
	verdictHeader = 2
)

// headersAtMost is how many bytes of a packet are read: an IPv4 header with all options, or
// an IPv6 header and 84 bytes of extension headers, and the ports.
const headersAtMost = 128

// bind binds the queue to this socket, and asks for the headers of its packets.
func (p *Prevention) bind() error {
	request := p.request(messageConfig, unix.NLM_F_ACK)
	request.AddData(nl.NewRtAttr(configCommand, []byte{commandBind, 0, 0, unix.AF_INET}))
	request.AddData(nl.NewRtAttr(configParams, append(binary.BigEndian.AppendUint32(nil, headersAtMost), copyPacket)))
	const length = 1 << 16 // of the queue; by default 1024 packets
	request.AddData(nl.NewRtAttr(configMaxLength, binary.BigEndian.AppendUint32(nil, length)))
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: p.packets}}
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

func (p *Prevention) request(message, flags int) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(subsystemQueue<<8|message, flags)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0, ResId: queue})
	return request
}

// Close ends the Prevention: entries of connections that end from now on may be evicted. It
// returns the error that stopped the Prevention earlier, if any. A second Close does
// nothing.
func (p *Prevention) Close() error {
	p.closing.Do(func() {
		close(p.stopped)
		p.packets.Close() // which wakes serve
		p.work.Wait()
		p.closeConntrack() // serve may have been in the middle of a packet
	})
	if p.err != nil {
		return fmt.Errorf("prevent eviction: %w", p.err)
	}
	return nil
}

func (p *Prevention) closeConntrack() {
	for _, s := range p.conntrack {
		s.Socket.Close()
	}
}

// serve lets each packet continue when the entry of its connection is marked.
func (p *Prevention) serve() {
	for {
		messages, _, err := p.packets.Receive()
		for _, m := range messages {
			if err == nil {
				err = p.serveOne(m.Data)
			}
		}
		select {
		case <-p.stopped: // the queue may be closed by now, which looks like an error
			return
		default:
		}
		if err != nil {
			p.err = err
			p.packets.Close() // so that no packet waits for us (queue-bypass)
			return
		}
	}
}

func (p *Prevention) serveOne(message []byte) error {
	id, packet, err := parsePacket(message)
	if err != nil {
		return err
	}
	if err := p.mark(packet); err != nil {
		return err
	}
	verdict := p.request(messageVerdict, 0)
	const accept = 1 // NF_ACCEPT
	verdict.AddData(nl.NewRtAttr(verdictHeader, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, accept), id)))
	if err := p.packets.Send(verdict); err != nil {
		return fmt.Errorf("let a packet go on: %w", err)
	}
	return nil
}

// ends are the two ends of a packet; they are invalid when it is not TCP.
type ends struct{ from, to netip.AddrPort }

// packet is a packet that waits in the queue.
type packet struct {
	ends
	forward bool // in chain FORWARD, where conntrack has seen it; else before that
}

// parsePacket reads the number that the queue gave to a packet, and the packet.
func parsePacket(message []byte) (id uint32, p packet, err error) {
	if len(message) < nl.SizeofNfgenmsg {
		return 0, p, fmt.Errorf("queue: message of %d bytes", len(message))
	}
	attributes, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
	if err != nil {
		return 0, p, fmt.Errorf("queue: %w", err)
	}
	const size, hook = 7, 6 // of struct nfqnl_msg_packet_hdr
	const forward = 2       // NF_INET_FORWARD
	numbered := false
	for _, a := range attributes {
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case packetHeader:
			if len(a.Value) >= size {
				id, numbered = binary.BigEndian.Uint32(a.Value), true
				p.forward = a.Value[hook] == forward
			}
		case packetPayload:
			p.ends = endsOf(a.Value)
		}
	}
	if !numbered {
		return 0, p, errors.New("queue: a packet without a number")
	}
	return id, p, nil
}
