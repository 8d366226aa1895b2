// Package ladder lays out the packets of one connection as lanes and rows: plain data, from
// which text and drawings are made.
//
// There is one row for each packet, however many taps have seen it. [New] decides what is
// shown, and where it goes: which lanes, which way, where an arrow ends, what is folded. A
// writer only draws that; [Text] is the one for terminals.
package ladder

import (
	"time"

	"twlab/harness/recording"
)

// Ladder is what became of the packets of one connection.
type Ladder struct {
	// Title names the connection, and says what became of it.
	Title string
	// Lanes are the nodes, in the order of the way from the client.
	Lanes []Lane
	Rows  []Row
	// Notes say which initial sequence numbers the numbers of the rows are relative to, and
	// what was left out.
	Notes []string
}

// Lane is a node, drawn as a vertical line.
type Lane struct {
	Node string
	// Untapped says that none of its own interfaces was recorded, so that what came into it
	// is known from others only.
	Untapped bool
}

// Kind is what a row shows.
type Kind string

// The kinds.
const (
	// Packet is a packet on its way: an arrow.
	Packet Kind = "packet"
	// Tuple says which addresses and ports the packet above has since it was translated.
	Tuple Kind = "tuple"
	// Note is what a node knew before the packet below came: a socket.
	Note Kind = "note"
	// Gap is time in which nothing happened, with the reason.
	Gap Kind = "gap"
	// Repeat stands for packets like those above.
	Repeat Kind = "repeat"
	// Outcome is what the client's system call returned.
	Outcome Kind = "outcome"
)

// Row is one line, or one arrow with what belongs to it.
type Row struct {
	Kind Kind
	// At is the time since the first SYN, or since the first packet where no SYN was seen; of
	// a gap, its length.
	At time.Duration
	// First and Last are the numbers of the packets that it shows, from 1 on; 0 for none.
	First, Last int
	// Arrow is there for packets only.
	Arrow *Arrow
	// Lane is where a note or an outcome belongs: an index of [Ladder.Lanes].
	Lane int
	// Text says what is not drawn: why a packet ended, how long a gap was.
	Text string
}

// End says how an arrow ends.
type End string

// The ends.
const (
	// Arrived: it came into the last node of its way, which took it. Drawn as ">".
	Arrived End = "arrived"
	// Ended: it came into its last lane, and ended there. Drawn as "x".
	Ended End = "ended"
	// Lost: it left its last lane, and came into no other. Drawn as an "x" between lanes.
	Lost End = "lost"
	// Unseen: it left its last lane for where nothing was recorded. Drawn as "?".
	Unseen End = "unseen"
)

// Arrow is the way of one packet.
type Arrow struct {
	// From is the lane where it was seen first, To the one where it was seen last. They are
	// the same for a packet that one node alone has seen.
	From, To int
	// Back says that it goes towards the client: to the left.
	Back bool
	// Outside says that it was first seen as it came into From, from where nothing was recorded.
	// Drawn as "?" before From.
	Outside bool
	// Via are the lanes that it went through in between, and From and To where it was
	// translated there, in the order of its way. A lane that the arrow crosses and that is
	// not among them has not seen it.
	Via []Stop
	End End
	// Label is the packet in a few words, with relative numbers: "SYN", "ACK 1", "100 bytes at 1".
	Label string
	// Seen are the sightings of the packet, in order: what a link from the arrow leads to.
	Seen []recording.Packet
}

// Stop is a lane that a packet went through.
type Stop struct {
	Lane int
	// Translated says that it left with other addresses or ports. Drawn as "~".
	Translated bool
}

// turn is the farthest lane of a packet that came back to the lane that it had left; -1 for one
// that did not.
func (a Arrow) turn() int {
	far := -1
	for _, s := range a.Via {
		if a.From == a.To && s.Lane != a.From && (far < 0 || s.Lane > far) {
			far = s.Lane
		}
	}
	return far
}
