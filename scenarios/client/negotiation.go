package client

import (
	"context"
	"fmt"
	"net/netip"

	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and who connects.
const (
	negotiationClientTS   = "client-ts"
	negotiationBalancerTS = "balancer-ts"
	opener                = "opener"

	openerClient   = "client"
	openerBalancer = "balancer"
)

// Negotiation is the family of the handshake: when a connection has timestamps.
func Negotiation() situation.Family {
	return situation.Family{
		Family: claim.Family{
			Name:     "negotiation",
			Evidence: negotiationEvidence(),
			About: "Timestamps are on at the client, at the balancer, at both or at neither, and either side connects: does the connection have " +
				"timestamps?",
			Axes: []claim.Axis{
				{Name: negotiationClientTS, Values: []string{"1", "0", "2"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the client"},
				{Name: negotiationBalancerTS, Values: []string{"1", "0", "2"}, Product: true, Sysctl: claim.RoleSysctl{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
					Means: "tcp_timestamps of the balancer"},
				{Name: opener, Values: []string{openerClient, openerBalancer}, Product: true,
					Means: "which side connects: the client to the balancer, or the balancer to the client (as to a server)"},
				situation.IPAxis(),
			},
			Rules: negotiationRules(),
		},
		Topology: negotiationTopology,
		Drive:    negotiationDrive,
		Tell:     negotiationTell,
	}
}

// negotiationRules are in this order: timestamps are on at both sides; they are off at
// the side that connects; they are off at the other side.
func negotiationRules() []claim.Rule {
	on, off := []string{"1", "2"}, []string{"0"}

	return []claim.Rule{
		{
			Name: "negotiation-agreed", Cells: claim.Cells{{negotiationClientTS: on, negotiationBalancerTS: on}},
			Want: []claim.Expectation{
				situation.Outcome(tcp.Connected), claim.Is("in use", "yes"), claim.Is("option in the SYN", "yes"), claim.Is("option in the SYN-ACK", "yes"),
				claim.Is("echo in the SYN-ACK", "the SYN's value"),
				claim.Is("option in the opener's data", "yes"), claim.Is("option in the other's data", "yes"),
			},
			Because: "timestamps are on at both sides: the SYN offers them, the SYN-ACK echoes the SYN's value, and after that every segment of " +
				"both sides has them",
			Source: "RFC 7323 section 3.2; tcp_syn_options, tcp_synack_options, tcp_established_options",
		},
		{
			Name: "negotiation-not-offered", Cells: claim.Cells{{opener: {openerClient}, negotiationClientTS: off}, {opener: {openerBalancer}, negotiationBalancerTS: off}},
			Want: []claim.Expectation{
				situation.Outcome(tcp.Connected), claim.Is("in use", "no"), claim.Is("option in the SYN", "no"), claim.Is("option in the SYN-ACK", "no"),
				claim.Is("option in the opener's data", "no"), claim.Is("option in the other's data", "no"),
			},
			Because: "the side that connects does not offer timestamps, and neither side may use an option that the SYN has not offered",
			Source:  "RFC 7323 section 3.2; tcp_syn_options, tcp_parse_options",
		},
		{
			Name: "negotiation-not-taken", Cells: claim.Cells{{opener: {openerClient}, negotiationBalancerTS: off}, {opener: {openerBalancer}, negotiationClientTS: off}},
			Want: []claim.Expectation{
				situation.Outcome(tcp.Connected), claim.Is("in use", "no"), claim.Is("option in the SYN", "yes"), claim.Is("option in the SYN-ACK", "no"),
				claim.Is("option in the opener's data", "no"), claim.Is("option in the other's data", "no"),
			},
			Because: "the accepting side ignores the offer: its SYN-ACK has no timestamps, so the connecting side does not use them",
			Source:  "RFC 7323 section 3.2; tcp_parse_options: only with tcp_timestamps is the option of a SYN read",
		},
	}
}

func negotiationTopology(claim.Cell) lab.Topology { return lab.Topology{Clients: 1} }

func negotiationDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	from, to := l.Client(0), l.Balancer()
	if c.Either(opener, openerBalancer, openerClient) {
		from, to = to, from
	}
	seen, err := negotiate(ctx, l, from, to)
	if err != nil {
		return seen, fmt.Errorf("negotiation: %w", err)
	}
	return seen, nil
}

// negotiate connects from one node to the other and sends a byte each way.
func negotiate(ctx context.Context, l *lab.Lab, from, to node.Node) (seen claim.Seen, err error) {
	if err := l.Capture(l.Client(0).Identity().Name); err != nil {
		return seen, err
	}
	listener, err := to.Listen(ctx, tcp.ListenSpec{})
	if err != nil {
		return seen, err
	}
	outs, err := from.Attempt(ctx, []tcp.Attempt{{To: listener.Addr}})
	if err != nil {
		return seen, err
	}
	out := outs[0]
	seen.Note("outcome", string(out.Outcome))
	if out.Outcome != tcp.Connected {
		return seen, nil
	}
	accepted, err := situation.Accept(ctx, to, listener, out.Local)
	if err != nil {
		return seen, err
	}
	if _, err := from.Send(ctx, out.Conn, 1); err != nil {
		return seen, err
	}
	if _, err := to.Send(ctx, accepted, 1); err != nil {
		return seen, err
	}
	seen.Note("in use", claim.YesNo(out.Timestamps))
	var shook handshake
	err = observe.Await(ctx, "a byte of each side", func() (bool, error) {
		packets, err := l.Packets()
		shook = readHandshake(packets, out.Local, listener.Addr)
		return shook.openerData != nil && shook.otherData != nil, err
	})
	if err != nil {
		return seen, err
	}
	shook.note(&seen)
	return seen, nil
}

// handshake is the beginning of one connection, as packets show it. A packet that was
// not seen is nil.
type handshake struct{ syn, synACK, openerData, otherData *observe.Packet }

// readHandshake finds the last packet of each kind at the last point where it was
// recorded: where it arrived, or where it left for a guest, whose packets cannot be
// recorded.
func readHandshake(packets []observe.Packet, opener, other netip.AddrPort) (h handshake) {
	for _, p := range packets {
		fromOpener := p.Src == opener && p.Dst == other
		fromOther := p.Src == other && p.Dst == opener
		switch {
		case fromOpener && p.Flags.Has(observe.FlagSYN):
			h.syn = &p
		case fromOther && p.Flags.Has(observe.FlagSYN|observe.FlagACK):
			h.synACK = &p
		case fromOpener && p.Payload > 0:
			h.openerData = &p
		case fromOther && p.Payload > 0:
			h.otherData = &p
		}
	}
	return h
}

func (h handshake) note(seen *claim.Seen) {
	for _, one := range []struct {
		what   string
		packet *observe.Packet
	}{
		{"SYN", h.syn}, {"SYN-ACK", h.synACK}, {"opener's data", h.openerData}, {"other's data", h.otherData},
	} {
		seen.Note("option in the "+one.what, option(one.packet))
	}
	if h.syn == nil || h.synACK == nil {
		return
	}
	echo := "none"
	switch {
	case !h.synACK.Timestamp.Present:
	case h.synACK.Timestamp.Echo == h.syn.Timestamp.Value:
		echo = "the SYN's value"
	default:
		echo = "another value"
	}
	seen.Note("echo in the SYN-ACK", echo)
}

// option says whether a packet has the timestamp option.
func option(p *observe.Packet) string {
	if p == nil {
		return "no such packet"
	}
	return claim.YesNo(p.Timestamp.Present)
}

// negotiationEvidence is what [negotiate] notes.
func negotiationEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.OutcomeEvidence,
		{Name: "in use", Unit: situation.YesOrNo, Means: "whether the socket of the connecting side (the opener) has timestamps (TCP_INFO)"},
		{Name: "option in the SYN", Unit: situation.YesOrNo, Means: "whether the SYN has the timestamp option"},
		{Name: "option in the SYN-ACK", Unit: situation.YesOrNo, Means: "whether the SYN-ACK has the timestamp option"},
		{Name: "option in the opener's data", Unit: situation.YesOrNo, Means: "whether the opener's first segment with data has the timestamp option"},
		{Name: "option in the other's data", Unit: situation.YesOrNo, Means: "whether the other side's first segment with data has the timestamp option"},
		{Name: "echo in the SYN-ACK", Unit: "whose value, or none", Means: "which value the echo reply of the SYN-ACK has"},
	}
}
