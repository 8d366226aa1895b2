//go:build linux

// Package recorded writes what acts and what bears witness in a lab as recordings have it.
package recorded

import (
	"context"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"twlab/harness/http"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/reason"
	"twlab/harness/recording"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Attempt is an attempt of a node, with the answers to its requests.
func Attempt(node string, to netip.AddrPort, got tcp.Result, replies []http.Reply) recording.Attempt {
	a := recording.Attempt{
		Node: node, Outcome: string(got.Outcome), Errno: Errno(got.Errno), Took: got.Took, Lasted: got.Lasted,
		Local: got.Local, Remote: to, SYNs: got.SYNs, Timestamps: got.Timestamps,
	}
	for _, r := range replies {
		a.Replies = append(a.Replies, recording.Reply{
			Disposition: string(r.Disposition), Status: r.Status, Length: r.Length, Bytes: r.Bytes, Written: int64(r.Written),
			Close: r.Close, Errno: Errno(r.Errno), WriteErrno: Errno(r.WriteErrno), Problem: r.Problem, Took: r.Took,
		})
	}
	return a
}

// Holders are the sockets that have a port.
func Holders(of []tcp.Holder) (all []recording.Holder) {
	for _, h := range of {
		all = append(all, recording.Holder{
			Use: string(h.Use), State: h.State, Local: h.Local, Remote: h.Remote,
			Open: !h.Handle.IsZero(), ReuseAddr: h.ReuseAddr, ReusePort: h.ReusePort,
		})
	}
	return all
}

// Packets are what taps have recorded.
func Packets(of []observe.Packet) (all []recording.Packet) {
	for _, p := range of {
		one := recording.Packet{
			Point: p.Point, Interface: p.Interface, Time: p.Time.UTC(), Out: p.Direction == observe.Out, Src: p.Src, Dst: p.Dst,
			ID: p.ID, FlowLabel: p.FlowLabel, Seq: p.Seq, Ack: p.Ack, Flags: p.Flags.String(), Payload: p.Payload, Fragment: p.Fragment, Raw: p.Raw,
		}
		if p.Timestamp.Present {
			one.Timestamp = &recording.Timestamp{Value: p.Timestamp.Value, Echo: p.Timestamp.Echo}
		}
		all = append(all, one)
	}
	return all
}

// Sockets are a table of sockets.
func Sockets(of observe.Sockets) (all []recording.Socket) {
	for _, s := range of {
		one := recording.Socket{
			State: string(s.State), Local: s.Local, Remote: s.Remote, Expires: s.Expires,
			RecvQueue: s.RecvQueue, SendQueue: s.SendQueue, V6: s.V6, V6Only: s.V6Only,
		}
		if s.Timer != observe.TimerNone {
			one.Timer = string(s.Timer)
		}
		all = append(all, one)
	}
	return all
}

// Flows are a conntrack table.
func Flows(of []observe.Flow) (all []recording.Flow) {
	for _, f := range of {
		all = append(all, recording.Flow{
			From: f.Original.Src, To: f.Original.Dst, As: f.Reply.Dst, At: f.Reply.Src,
			State: f.State, Expires: f.Expires, SeenReply: f.SeenReply, Assured: f.Assured,
		})
	}
	return all
}

// Events are what kernels have told of drops and resets.
func Events(of []reason.Event) []recording.Event {
	all := make([]recording.Event, 0, len(of))
	for _, e := range of {
		all = append(all, recording.Event{
			Time: e.At.UTC().Round(0), Kind: string(e.Kind), Node: e.Node, Reason: e.Reason, Place: e.Place, Unasked: e.Unasked,
			Src: e.Src, Dst: e.Dst, Flags: e.Flags.String(), Seq: e.Seq, Ack: e.Ack, Payload: e.Payload,
		})
	}
	return all
}

// Rules are what rules have matched.
func Rules(of []observe.RuleHits) (all []recording.Rule) {
	for _, r := range of {
		all = append(all, recording.Rule(r))
	}
	return all
}

// Addresses are all addresses of a node.
func Addresses(n topo.Planned) (all []netip.Addr) {
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	add(n.Addr)
	for _, a := range n.Loopback {
		add(a)
	}
	for _, e := range n.Ends {
		add(e.Addr)
		add(e.Addr6)
	}
	return all
}

// State reads the tables of a node; the conntrack entries of one that tracks, and the rules of one
// that is ruled.
func State(ctx context.Context, n node.Node, tracks, ruled bool) (s recording.State, err error) {
	if s.Counters, err = n.Counters(ctx); err != nil {
		return s, err
	}
	table, err := n.Sockets(ctx)
	if err != nil {
		return s, err
	}
	s.Sockets = Sockets(table)
	if tracks {
		entries, err := n.Flows(ctx)
		if err != nil {
			return s, err
		}
		s.Flows = Flows(entries)
	}
	if ruled {
		hits, err := n.Rules(ctx)
		if err != nil {
			return s, err
		}
		s.Rules = Rules(hits)
	}
	return s, nil
}

// Errno names an error of the kernel; empty for none.
func Errno(e syscall.Errno) string {
	if e == 0 {
		return ""
	}
	return unix.ErrnoName(e)
}
