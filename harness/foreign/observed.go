package foreign

import (
	"time"

	"twlab/harness/recording"
)

// The verdicts on an attempt.
type verdict int

const (
	fine       verdict = iota
	died               // no answer, a RST, repeated SYNs, or data that nobody acknowledges
	unbegun            // it had begun before, and nothing is wrong with what is there
	unfinished         // the capture ends too early to tell
)

// observed is what the node nearest to the client has seen of an attempt.
type observed struct {
	ends
	// end says that this node is an end of the way, where each packet is seen once.
	end bool
	// atClient says that this node is where the attempt began: a SYN-ACK that came there has
	// connected it. Elsewhere it may have got lost later, and the client's ACK shows that it
	// has not.
	atClient bool
	isn      uint32
	began    bool
	until    time.Time // the end of the capture

	first, lastSYN     time.Time
	syns               int
	early              uint32 // octets of data in a SYN (RFC 7413)
	number             uint32 // of the last SYN-ACK
	answered           bool
	connected, refused time.Time
	reset              time.Time // by the other side, before the client had ended it
	ended              bool      // the client has sent a FIN or a RST
	acked              uint32    // the highest number of the client that was acknowledged
	data               map[uint32]int
}

// rto is how long a first SYN waits for its answer (RFC 6298).
const rto = time.Second

// fewest is how often data is sent before it counts as stalled: three times again.
const fewest = 4

func (o *observed) see(p packet) {
	if o.first.IsZero() {
		o.first, o.data, o.acked = p.Time, map[uint32]int{}, o.isn
	}
	mine, theirs := ends{p.Src, p.Dst} == o.ends, ends{p.Dst, p.Src} == o.ends
	switch {
	case mine && p.Flags&(syn|ack|rst) == syn && p.Seq == o.isn:
		if o.end || !p.out { // a box sees it twice
			o.syns++
		}
		o.lastSYN, o.early = p.Time, max(o.early, uint32(p.Payload))
	case mine && o.began && o.answered && o.connected.IsZero() && p.Flags&(ack|rst) == ack && int32(p.Ack-o.number) > 0: //nolint:gosec // numbers wrap around
		o.connected = p.Time
	case mine && p.Flags&(fin|rst) != 0:
		// A RST that answers a stray ACK does not end it.
		o.ended = o.ended || !o.began || !o.connected.IsZero()
	case mine && p.Payload > 0:
		if o.end || !p.out {
			o.data[p.Seq]++
		}
	case theirs && p.Flags&rst != 0:
		switch {
		case o.began && o.connected.IsZero() && p.Ack-o.isn-1 <= o.early:
			o.refused = p.Time
		case !o.ended:
			o.reset = p.Time
		}
	case theirs && p.Flags&(syn|ack) == syn|ack && p.Ack-o.isn-1 <= o.early && o.connected.IsZero():
		o.answered, o.number = true, p.Seq
		if o.atClient {
			o.connected = p.Time
		}
	}
	if theirs && p.Flags&ack != 0 && int32(p.Ack-o.acked) > 0 { //nolint:gosec // numbers wrap around
		o.acked = p.Ack
	}
}

// verdict says what became of the attempt, as far as packets tell.
func (o *observed) verdict(a *recording.Attempt) verdict {
	a.SYNs = o.syns
	switch {
	case o.began && !o.connected.IsZero():
		a.Outcome, a.Took = "Connected", o.connected.Sub(o.first)
	case o.began && !o.refused.IsZero():
		a.Outcome, a.Took = "Refused", o.refused.Sub(o.first)
		return died
	case o.began && o.syns == 1 && o.until.Sub(o.lastSYN) < rto:
		return unfinished
	case o.began:
		a.Outcome, a.Took = "Unanswered", o.until.Sub(o.first)
		return died
	}
	if !o.reset.IsZero() {
		a.Replies = []recording.Reply{{Disposition: "reset", Length: -1}}
		return died
	}
	for seq, n := range o.data {
		if n >= fewest && int32(seq-o.acked) >= 0 { //nolint:gosec // numbers wrap around
			a.Replies = []recording.Reply{{Disposition: "stalled", Length: -1}}
			return died
		}
	}
	switch {
	case o.syns > 1:
		return died // late
	case !o.began:
		return unbegun
	}
	return fine
}
