package diagnose

import (
	"slices"
	"time"

	"twlab/harness/recording"
)

// Symptom is what a user sees of an attempt.
type Symptom string

// The symptoms.
const (
	Fine   Symptom = "fine"
	Failed Symptom = "failed" // connect(2), or the bind(2) before it, gave an error
	Late   Symptom = "late"   // connected, after more than one SYN
	Broken Symptom = "broken" // connected, and a request or its answer got lost
)

// Case is one attempt, with everything that the recording has of it.
type Case struct {
	r       *recording.Recording
	attempt recording.Attempt
	holders []recording.Holder // of the port that it did not get
	symptom Symptom
	// before and after are the states of all nodes around the attempt.
	before, after map[string]recording.State
	during        []map[string]recording.State // those between, with both
	// tuples are its ends, on each side of each translation.
	tuples map[ends]bool
	all    []Life // of the recording
	lives  []Life // of its packets
	syns   []Life // those SYNs that were not answered by a SYN-ACK
	events []recording.Event

	// captured says that others have recorded it, so that a counter that is not there is
	// unknown. Counted is set where one was asked for, lacking where it is not there, and
	// asked to its node.
	captured, counted, lacking bool
	asked                      string
}

// newCase gathers what the recording has of an attempt of step i.
func newCase(r *recording.Recording, i int, a recording.Attempt) *Case {
	return newCaseOf(r, Lives(r), i, a)
}

// newCaseOf does that with the packets of the recording as they have been put together.
func newCaseOf(r *recording.Recording, all []Life, i int, a recording.Attempt) *Case {
	c := &Case{r: r, all: all, attempt: a, holders: r.Steps[i].Result.Holders, symptom: symptom(a), tuples: map[ends]bool{{a.Local, a.Remote}: true}}
	from, until := r.Began.Add(r.Steps[i].Began), r.Began.Add(r.Took)
	c.before, c.after = r.Before, r.After
	for k := i - 1; k >= 0; k-- {
		if r.Steps[k].After != nil {
			c.before = r.Steps[k].After
			break
		}
	}
	c.during = append(c.during, c.before)
	// One in the background ends when it is waited for.
	for _, s := range r.Steps[i:] {
		if s.After == nil {
			continue
		}
		c.during = append(c.during, s.After)
		if s.Ended >= r.Steps[i].Ended {
			c.after, until = s.After, r.Began.Add(r.Steps[i].Ended)
			break
		}
	}
	c.gather(from, until)
	if !slices.ContainsFunc(c.lives, isSYN) { // requests on a connection of before
		c.lives, c.events = nil, nil
		c.gather(r.Began, until)
	}
	return c
}

// gather finds the packets and events of the attempt between two times.
func (c *Case) gather(from, until time.Time) {
	for _, l := range c.all {
		if first := l.First().Time; first.Before(from) || first.After(until) {
			continue
		}
		mine := slices.ContainsFunc(l.Seen, func(p recording.Packet) bool {
			e := ends{p.Src, p.Dst}
			return c.tuples[e] || c.tuples[e.turned()]
		})
		if !mine {
			continue
		}
		for _, p := range l.Seen {
			c.tuples[ends{p.Src, p.Dst}] = true
		}
		c.lives = append(c.lives, l)
	}
	for i, l := range c.lives {
		if isSYN(l) && !answered(c.lives[i:]) {
			c.syns = append(c.syns, l)
		}
	}
	for _, e := range c.r.Events {
		way := ends{e.Src, e.Dst}
		if !e.Time.Before(from) && !e.Time.After(until) && (c.tuples[way] || c.tuples[way.turned()]) {
			c.events = append(c.events, e)
		}
	}
}

func isSYN(l Life) bool { return l.First().Flags == "S" }

// answered reports whether the first packet, a SYN, has a SYN-ACK before it is sent again.
func answered(lives []Life) bool {
	for _, l := range lives[1:] {
		switch {
		case isSYN(l):
			return false
		case l.First().Flags == "S." && l.First().Ack == lives[0].First().Seq+1:
			return true
		}
	}
	return false
}

// symptom is what the client saw.
func symptom(a recording.Attempt) Symptom {
	toItself := a.Local.IsValid() && a.Local == a.Remote
	broken := toItself || slices.ContainsFunc(a.Replies, func(r recording.Reply) bool {
		return r.Disposition != "whole" || r.Errno != "" || r.WriteErrno != ""
	})
	switch {
	case broken:
		return Broken
	case a.Outcome != "Connected" && a.Outcome != "":
		return Failed
	case a.SYNs > 1:
		return Late
	default:
		return Fine
	}
}

// unknown reports whether the recording has no evidence of a kind.
func (c *Case) unknown(e recording.Evidence) bool {
	// No tap is on a loopback.
	if e == recording.OfPackets && c.toItsNode() {
		return true
	}
	_, missing := c.r.Missing[e]
	return missing
}

// toItsNode reports whether the client called its own node.
func (c *Case) toItsNode() bool { return owns(c.r, c.attempt.Node, c.attempt.Remote.Addr()) }

// stop is where all SYNs that were not answered ended, if that is one place. Without a packet
// on any tap it is the client.
func (c *Case) stop() (node string, end End, ok bool) {
	node, end, ok = c.stopped()
	c.asked = node
	return node, end, ok
}

func (c *Case) stopped() (node string, end End, ok bool) {
	if c.toItsNode() {
		return c.attempt.Node, Delivered, true
	}
	if c.unknown(recording.OfPackets) {
		return "", "", false
	}
	if len(c.syns) == 0 {
		return c.attempt.Node, Stopped, !slices.ContainsFunc(c.lives, isSYN)
	}
	first := c.syns[0]
	for _, l := range c.syns {
		if l.Node != first.Node || l.End != first.End {
			return "", "", false
		}
	}
	return first.Node, first.End, true
}

// sent is how many SYNs were sent and not answered.
func (c *Case) sent() int {
	if len(c.syns) == 0 && !slices.ContainsFunc(c.lives, isSYN) {
		return max(c.attempt.SYNs, 1) // its own firewall has them
	}
	return len(c.syns)
}

// rose is by how much a counter of a node rose.
func (c *Case) rose(node, counter string) uint64 {
	c.asked, c.counted = node, true
	if _, there := c.after[node].Counters[counter]; !there && c.captured {
		c.lacking = true
	}
	return c.after[node].Counters[counter] - c.before[node].Counters[counter]
}
