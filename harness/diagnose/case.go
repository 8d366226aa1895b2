package diagnose

import (
	"cmp"
	"slices"
	"time"

	"twlab/harness/recording"
)

// Symptom is what a user sees of an attempt.
type Symptom string

// The symptoms.
const (
	Fine    Symptom = "fine"
	Failed  Symptom = "failed"  // connect(2), or the bind(2) before it, gave an error
	Late    Symptom = "late"    // connected, after more than one SYN
	Broken  Symptom = "broken"  // connected, and then an error, or an end in place of an answer
	Stalled Symptom = "stalled" // connected, and what was waited for did not come
)

// Case is one attempt, with everything that the recording has of it.
type Case struct {
	r       *recording.Recording
	attempt recording.Attempt
	on      *recording.On      // how a send or a receive used it, nil for an attempt itself
	errno   string             // the kernel's error
	holders []recording.Holder // of the port that it did not get
	symptom Symptom
	// beside are all attempts of the step, if it made the connection.
	beside []recording.Attempt
	// before and after are the states of all nodes around the attempt. Of a connection that is
	// used by a later step, before is the state when it had been made.
	before, after map[string]recording.State
	// madeEarlier says that an earlier step made the connection.
	madeEarlier bool
	during      []map[string]recording.State // those between, with both
	// tuples are its ends, on each side of each translation.
	tuples map[ends]bool
	lives  []Life // of its packets
	others []Life // those of other connections in the meantime
	later  []Life // all that followed until the next step, so that the state after may count them
	syns   []Life // those SYNs that were not answered by a SYN-ACK
	events []recording.Event

	// ofLoad says that it is an example of many attempts, whose SYNs of its kind are total.
	ofLoad bool
	total  int

	// captured says that others have recorded it, so that a counter that is not there is
	// unknown. Counted is set where one was asked for, lacking where it is not there, and
	// asked to its node.
	captured, counted, lacking bool
	asked                      string
}

// newCase gathers what the recording has of an attempt of step i, or of the use of a
// connection by that step. Lives are all packets of the recording.
func newCase(r *recording.Recording, i int, a recording.Attempt, on *recording.On, lives []Life) *Case {
	result := r.Steps[i].Result
	c := &Case{
		r: r, attempt: a, on: on, errno: errnoOf(a, result, on), holders: result.Holders, symptom: symptomOf(a, result, on),
		tuples: map[ends]bool{{a.Local, a.Remote}: true},
	}
	made := madeBy(r, i, a)
	before := made - 1
	c.madeEarlier = made < i
	if c.madeEarlier {
		before = made
	} else {
		c.beside = result.Attempts
	}
	c.before, c.after = r.Before, r.After
	for ; before >= 0; before-- {
		if r.Steps[before].After != nil {
			c.before = r.Steps[before].After
			break
		}
	}
	c.during = append(c.during, c.before)
	until := r.Began.Add(r.Took)
	looked := until
	// One in the background ends when it is waited for.
	for k, s := range r.Steps[made:] {
		if s.After == nil {
			continue
		}
		c.during = append(c.during, s.After)
		if s.Ended >= r.Steps[i].Ended {
			c.after, until = s.After, r.Began.Add(r.Steps[i].Ended)
			if next := made + k + 1; next < len(r.Steps) {
				looked = r.Began.Add(r.Steps[next].Began)
			}
			break
		}
	}
	for _, l := range lives {
		if first := l.First().Time; first.After(until) && !first.After(looked) {
			c.later = append(c.later, l)
		}
	}
	c.gather(lives, r.Began.Add(r.Steps[made].Began), until)
	if a.SYNs == 0 && !slices.ContainsFunc(c.lives, isSYN) { // no step says that it made the connection
		c.lives, c.others, c.events = nil, nil, nil
		c.gather(lives, r.Began, until)
	}
	return c
}

// madeBy is the step that made the connection of an attempt of step i: an earlier one, if step
// i has only used it.
func madeBy(r *recording.Recording, i int, a recording.Attempt) int {
	if a.SYNs > 0 || a.Outcome != "Connected" && a.Outcome != "" {
		return i // connect(2) of its own
	}
	for k, s := range slices.Backward(r.Steps[:i]) {
		if slices.ContainsFunc(s.Result.Attempts, func(made recording.Attempt) bool {
			return made.Outcome == "Connected" && made.Node == a.Node && made.Local == a.Local && made.Remote == a.Remote
		}) {
			return k
		}
	}
	return i
}

// errnoOf is the kernel's error of an attempt, of the requests on it, or of a step that used
// it.
func errnoOf(a recording.Attempt, result recording.Result, on *recording.On) string {
	if on != nil {
		return result.Errno
	}
	for _, reply := range a.Replies {
		if e := cmp.Or(reply.Errno, reply.WriteErrno); e != "" {
			return e
		}
	}
	return a.Errno
}

// gather finds the packets and events of the attempt between two times.
func (c *Case) gather(lives []Life, from, until time.Time) {
	for _, l := range lives {
		if first := l.First().Time; first.Before(from) || first.After(until) {
			continue
		}
		mine := slices.ContainsFunc(l.Seen, func(p recording.Packet) bool {
			e := ends{p.Src, p.Dst}
			return c.tuples[e] || c.tuples[e.turned()]
		})
		if !mine {
			c.others = append(c.others, l)
			continue
		}
		for _, p := range l.Seen {
			c.tuples[ends{p.Src, p.Dst}] = true
		}
		c.lives = append(c.lives, l)
	}
	c.findSYNs()
	for _, e := range c.r.Events {
		way := ends{e.Src, e.Dst}
		if !e.Time.Before(from) && !e.Time.After(until) && (c.tuples[way] || c.tuples[way.turned()]) {
			c.events = append(c.events, e)
		}
	}
}

// findSYNs finds the SYNs that no SYN-ACK answered.
func (c *Case) findSYNs() {
	for i, l := range c.lives {
		if isSYN(l) && !answered(c.lives[i:]) {
			c.syns = append(c.syns, l)
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
		case l.First().Flags == "S." && acknowledges(l.First(), lives[0].First()):
			return true
		}
	}
	return false
}

// acknowledges reports whether a packet has the number of an answer to a SYN, which may have
// data (RFC 7413).
func acknowledges(p, syn recording.Packet) bool { return p.Ack-syn.Seq-1 <= uint32(syn.Payload) }

// symptom is what the client saw.
func symptom(a recording.Attempt) Symptom {
	toItself := a.Local.IsValid() && a.Local == a.Remote
	broken := toItself || slices.ContainsFunc(a.Replies, func(r recording.Reply) bool {
		return r.Disposition != "whole" || r.Errno != "" || r.WriteErrno != "" || ofBalancer(r)
	})
	switch {
	case a.Outcome != "Connected" && a.Outcome != "": // its requests were not sent
		return Failed
	case broken:
		return Broken
	case a.SYNs > 1:
		return Late
	default:
		return Fine
	}
}

// ofBalancer reports whether the status of a response is one by which a balancer says that it
// got none (RFC 9110, sections 15.6.3 to 15.6.5).
func ofBalancer(r recording.Reply) bool { return r.Status >= 502 && r.Status <= 504 }

// symptomOf is what an attempt saw, or a send or a receive that used it.
func symptomOf(a recording.Attempt, r recording.Result, on *recording.On) Symptom {
	switch {
	case on == nil:
		return symptom(a)
	case r.Errno == "EAGAIN" || r.On.Waited: // no room in the send buffer
		return Stalled
	case r.Errno != "":
		return Broken
	default:
		return Fine
	}
}

// Died reports whether an attempt of a step, or the use of a connection by it, did not go well.
func Died(r recording.Result) bool {
	return r.On != nil && symptomOf(recording.Attempt{}, r, r.On) != Fine ||
		slices.ContainsFunc(r.Attempts, func(a recording.Attempt) bool { return symptom(a) != Fine })
}

// here is the node at which the symptom was seen, there the one at the other end; empty where
// no tap shows which.
func (c *Case) here() string {
	if c.on != nil && c.on.AtServer {
		node, _, _ := c.server()
		return node
	}
	return c.attempt.Node
}

func (c *Case) there() string {
	if c.on != nil && c.on.AtServer {
		return c.attempt.Node
	}
	node, _, _ := c.server()
	return node
}

// unknown reports whether the recording has no evidence of a kind.
func (c *Case) unknown(e recording.Evidence) bool {
	// No tap is on a loopback.
	if e == recording.OfPackets && c.toItsNode() {
		return true
	}
	ofState := e == recording.OfCounters || e == recording.OfSockets || e == recording.OfFlows || e == recording.OfRules
	if ofState && (len(c.before) == 0 || len(c.after) == 0) {
		return true
	}
	_, missing := c.r.Missing[e]
	return missing
}

// toItsNode reports whether the client called its own node.
func (c *Case) toItsNode() bool {
	to := c.attempt.Remote.Addr()
	return to.IsLoopback() || owns(c.r, c.attempt.Node, to)
}

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

// parts are the case once for each place where SYNs of it ended without an answer, in the order of
// their first ones, and each with the SYNs that ended there.
func (c *Case) parts() (all []*Case) {
	for _, l := range c.syns {
		i := slices.IndexFunc(all, func(part *Case) bool { return part.syns[0].Node == l.Node && part.syns[0].End == l.End })
		if i < 0 {
			part := *c
			part.syns = nil
			all, i = append(all, &part), len(all)
		}
		all[i].syns = append(all[i].syns, l)
	}
	return all
}

// sent is how many SYNs were sent and not answered.
func (c *Case) sent() int {
	if c.ofLoad {
		return c.total
	}
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
	before, after := c.before[node].Counters[counter], c.after[node].Counters[counter]
	return max(before, after) - before
}
