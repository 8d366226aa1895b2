//go:build linux

// Package explain says why attempts of a load did not connect at once.
package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/lab"
	"twlab/harness/ladder"
	"twlab/harness/load"
	"twlab/harness/observe"
	"twlab/harness/reason"
	"twlab/harness/recorded"
	"twlab/harness/recording"
)

// MostWhole is the number of attempts up to which a load leaves all its packets in the taps of
// its lab. Attempts of a larger one are looked at as they end, and their packets are forgotten.
const MostWhole = 2000

// batch is how many attempts that are over are looked at together, at least.
const batch = 1000

// mostPackets is how many packets may wait to be looked at, some 500 MiB. A load that makes more
// of them at once is not explained any further.
const mostPackets = 1 << 20

// Load explains the attempts of one load.
type Load struct {
	lab     *lab.Lab
	reasons *reason.Watch // nil where the kernel does not tell
	known   recording.Recording
	to      netip.AddrPort
	since   lab.Mark
	whole   bool

	work sync.WaitGroup
	// What follows is of the one that looks.
	// over are the attempts that are over, by their ends at any link.
	over  map[ends]spans
	tally diagnose.Tally
	blind string // why packets are not looked at any more
	err   error  // the first one

	mu      sync.Mutex
	waiting []diagnose.Attempted
	looking bool
}

// ends are both ends of a connection, the lower one first.
type ends struct{ low, high netip.AddrPort }

func endsOf(a, b netip.AddrPort) ends {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return ends{a, b}
}

// Begin begins to explain the load of a plan, and sees its Ended to it, in a lab whose links are
// recorded. The recording has the nodes, and what evidence is missing. The watch is nil where
// there is none.
func Begin(l *lab.Lab, w *reason.Watch, known recording.Recording, plan *load.Plan) *Load {
	x := &Load{
		lab: l, reasons: w, known: known, to: plan.Attempt.To, since: l.Mark(),
		whole: plan.Attempts() <= MostWhole, over: map[ends]spans{},
	}
	plan.Ended = x.ended
	return x
}

// ended takes attempts that are over.
func (x *Load) ended(some []load.Over) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, o := range some {
		x.waiting = append(x.waiting, diagnose.Attempted{
			Attempt: recorded.Attempt(o.Client.Identity().Name, x.to, o.Result, nil), Began: o.Began, Decided: o.Decided,
		})
	}
	if !x.whole && !x.looking && len(x.waiting) >= batch {
		x.looking = true
		x.work.Go(x.lookOn)
	}
}

// lookOn looks at what is over until less than a batch is left.
func (x *Load) lookOn() {
	for {
		x.mu.Lock()
		these := x.waiting
		if x.looking = len(these) >= batch; !x.looking {
			x.mu.Unlock()
			return
		}
		x.waiting = nil
		x.mu.Unlock()
		x.look(these)
	}
}

// Causes are those of the attempts that did not connect at once, when all are over, and how many
// did connect at once. Before and after are the states of all nodes around the load.
func (x *Load) Causes(before, after map[string]recording.State) (all []recording.LoadCause, atOnce int, err error) {
	x.work.Wait()
	x.look(x.waiting)
	x.waiting = nil
	for _, s := range x.tally.Shares(before, after) {
		c := recording.LoadCause{Cause: s.Cause, Status: string(s.Status), Attempts: s.Attempts, Example: s.Example.Attempt}
		for _, d := range s.Parts {
			c.Why = append(c.Why, d.Lines()...)
		}
		c.Ladder = x.ladder(s.Example)
		if c.Status == c.Cause && x.blind != "" {
			c.Why = append(c.Why, "     "+x.blind)
		}
		all = append(all, c)
	}
	return all, x.tally.Fine(), x.err
}

// ladder draws the packets of an example.
func (x *Load) ladder(d diagnose.Diagnosis) []string {
	r := recording.Recording{Nodes: x.known.Nodes, Events: d.Events}
	for _, l := range d.Lives {
		r.Packets = append(r.Packets, l.Seen...)
	}
	return ladder.New(&r, d).Text(false)
}

// look takes apart what is over.
func (x *Load) look(over []diagnose.Attempted) {
	r := x.known
	r.Missing = maps.Clone(x.known.Missing)
	if r.Missing == nil {
		r.Missing = map[recording.Evidence]string{}
	}
	until := time.Now() // taps are read one after the other: what comes meanwhile may be seen in part
	packets := x.packets()
	if x.blind != "" {
		r.Missing[recording.OfPackets] = x.blind
	}
	r.Packets = recorded.Packets(packets)
	if x.reasons != nil {
		told, err := x.reasons.Events()
		x.note(err)
		r.Events = recorded.Events(told)
		lost, err := x.reasons.Lost()
		x.note(err)
		if lost > 0 {
			r.Missing[recording.OfEvents] = fmt.Sprintf("%d events were lost", lost)
		}
	}
	for _, e := range x.tally.Add(&r, over) {
		if x.whole || x.blind != "" {
			break
		}
		key := endsOf(e.Src, e.Dst)
		x.over[key] = append(x.over[key], span{e.First, e.Last})
	}
	if !x.whole {
		x.forget(packets, until)
	}
}

// packets are those that were not forgotten; none when some were lost, because what was not seen is
// unknown then.
func (x *Load) packets() []observe.Packet {
	if x.blind != "" {
		return nil
	}
	packets, err := x.lab.PacketsSince(x.since)
	switch {
	case err != nil:
		x.blind = err.Error()
		return nil
	case !x.whole && len(packets) > mostPackets:
		x.blind = fmt.Sprintf("more than %d packets were waiting to be looked at", mostPackets)
		return nil
	}
	return packets
}

// span is the time between the first and the last packet of an attempt.
type span struct{ first, last time.Time }

type spans []span

// have reports whether a time is in one of them.
func (all spans) have(t time.Time) bool {
	return slices.ContainsFunc(all, func(s span) bool { return !t.Before(s.first) && !t.After(s.last) })
}

// before reports whether all of them are over at a time.
func (all spans) before(t time.Time) bool {
	return !slices.ContainsFunc(all, func(s span) bool { return !t.After(s.last) })
}

// forget drops the packets of attempts that are over, and the ends of their connections, up to a
// time at which all packets were seen.
func (x *Load) forget(packets []observe.Packet, until time.Time) {
	again := map[ends]bool{} // the same ends have begun another attempt
	for _, p := range packets {
		key := endsOf(p.Src, p.Dst)
		if p.Flags.Has(observe.FlagSYN) && !p.Flags.Has(observe.FlagACK) && x.over[key].before(p.Time) {
			again[key] = true
		}
	}
	gone := func(src, dst netip.AddrPort, at time.Time) bool {
		key := endsOf(src, dst)
		all, known := x.over[key]
		return x.blind != "" || known && !at.After(until) && (all.have(at) || all.before(at) && !again[key])
	}
	x.lab.Forget(x.since, func(p observe.Packet) bool { return gone(p.Src, p.Dst, p.Time) })
	if x.reasons != nil {
		x.note(x.reasons.Forget(func(e reason.Event) bool { return gone(e.Src, e.Dst, e.At) }))
	}
}

func (x *Load) note(err error) {
	if x.err == nil {
		x.err = err
	}
}
