//go:build linux

package play

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"twlab/harness/http"
	"twlab/harness/observe"
	"twlab/harness/recording"
	"twlab/harness/tcp"
)

// Result is the result of a step.
type Result = recording.Result

// attempted is an attempt as recordings have it.
func attempted(node string, to netip.AddrPort, got tcp.Result, replies []http.Reply) recording.Attempt {
	a := recording.Attempt{
		Node: node, Outcome: string(got.Outcome), Errno: errnoName(got.Errno), Took: got.Took, Lasted: got.Lasted,
		Local: got.Local, Remote: to, SYNs: got.SYNs, Timestamps: got.Timestamps,
	}
	for _, r := range replies {
		a.Replies = append(a.Replies, recording.Reply{
			Disposition: string(r.Disposition), Status: r.Status, Length: r.Length, Bytes: r.Bytes, Written: int64(r.Written),
			Close: r.Close, Errno: errnoName(r.Errno), WriteErrno: errnoName(r.WriteErrno), Problem: r.Problem, Took: r.Took,
		})
	}
	return a
}

// holders are the sockets that have a port.
func holders(of []tcp.Holder) (all []recording.Holder) {
	for _, h := range of {
		all = append(all, recording.Holder{
			Use: string(h.Use), State: h.State, Local: h.Local, Remote: h.Remote,
			Open: !h.Handle.IsZero(), ReuseAddr: h.ReuseAddr, ReusePort: h.ReusePort,
		})
	}
	return all
}

func packets(of []observe.Packet) (all []recording.Packet) {
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

func sockets(of observe.Sockets) (all []recording.Socket) {
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

func flows(of []observe.Flow) (all []recording.Flow) {
	for _, f := range of {
		all = append(all, recording.Flow{
			From: f.Original.Src, To: f.Original.Dst, As: f.Reply.Dst, At: f.Reply.Src,
			State: f.State, Expires: f.Expires, SeenReply: f.SeenReply, Assured: f.Assured,
		})
	}
	return all
}

func rules(of []observe.RuleHits) (all []recording.Rule) {
	for _, r := range of {
		all = append(all, recording.Rule(r))
	}
	return all
}

// errnoName names an error of the kernel; empty for none.
func errnoName(e syscall.Errno) string {
	if e == 0 {
		return ""
	}
	return unix.ErrnoName(e)
}
