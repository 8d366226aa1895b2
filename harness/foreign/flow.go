package foreign

import (
	"net/netip"
	"slices"
	"time"

	"twlab/harness/capture"
)

// Control bits of a TCP header.
const (
	fin capture.Flags = 1 << iota
	syn
	rst
	_
	ack
)

// ends are both ends of a connection, as one packet has them.
type ends struct{ src, dst netip.AddrPort }

func (e ends) turned() ends { return ends{e.dst, e.src} }

// key is a five-tuple at a node, whichever way its packets go.
type key struct {
	node int
	ends
}

func keyOf(node int, e ends) key {
	if e.dst.Compare(e.src) < 0 {
		e = e.turned()
	}
	return key{node, e}
}

// flow is what is known of all packets of a five-tuple at one node.
type flow struct {
	node int
	// forward are the ends of the client's packets.
	forward ends
	// opened says that the first SYN was seen, so that forward is certain.
	opened   bool
	isns     []uint32 // of different SYNs, up to a limit
	syns     int
	answered int    // SYN-ACKs
	answers  uint32 // the number of the SYN that the last of them answers
	reset    bool
	packets  int
	ended    [2]bool // by a FIN: of the client, of the server
	chosen   bool
	group    *flow // of the union of flows that are one connection; the flow itself at first
	kept     []int // indices of scan.kept
	cut      bool
}

// root is the flow that stands for all flows of a connection.
func (f *flow) root() *flow {
	for f.group != f {
		f.group = f.group.group
		f = f.group
	}
	return f
}

func join(a, b *flow) {
	a, b = a.root(), b.root()
	if a != b {
		b.group = a
	}
}

// certain reports whether it is known which side is the client.
func (f *flow) certain() bool { return f.opened || f.answered > 0 }

// scan is what is learnt of captures.
type scan struct {
	options Options
	sources []Source
	nodes   []string
	index   map[key]*flow
	flows   []*flow
	total   int // packets of all of them
	full    bool
	kept    []packet
	offset  []time.Duration // of each node's clock to the first one's
	matched []bool          // by which node's clock is known
	result  Result
}

// packet is a segment that is kept, and where it was seen.
type packet struct {
	capture.Segment
	node, source int
	out          bool
	sided        bool // out is known, and not guessed
	flow         *flow
}

func (s *scan) node(source int) int { return slices.Index(s.nodes, s.sources[source].Node) }

const (
	mostISNs    = 32   // that are kept of one five-tuple
	mostOfOne   = 4000 // packets of one five-tuple
	headOfOne   = 2000 // of those, from its beginning
	defaultMost = 300_000
	mostFlows   = 500_000
)

// learn notes a segment in its flow.
func (s *scan) learn(source int, g capture.Segment) {
	node := s.node(source)
	e := ends{g.Src, g.Dst}
	k := keyOf(node, e)
	f := s.index[k]
	if f == nil {
		most := s.options.MostFlows
		if most == 0 {
			most = mostFlows
		}
		if len(s.flows) >= most && !s.full {
			s.sweep(most)
		}
		if len(s.flows) >= most {
			if g.Flags&(syn|ack|rst) == syn {
				s.result.Left++
			}
			return
		}
		f = &flow{node: node, forward: e}
		f.group = f
		if g.Dst.Port() > g.Src.Port() { // a guess, until a SYN is seen
			f.forward = e.turned()
		}
		s.index[k], s.flows = f, append(s.flows, f)
	}
	f.packets++
	s.total++
	if g.Flags&fin != 0 {
		side := 0
		if f.forward != e {
			side = 1
		}
		f.ended[side] = true
	}
	switch bits := g.Flags & (syn | ack | rst); {
	case bits&rst != 0:
		f.reset = true
	case bits == syn:
		if !f.opened {
			f.forward, f.opened = e, true
		}
		f.syns++
		if !slices.Contains(f.isns, g.Seq) && len(f.isns) < mostISNs {
			f.isns = append(f.isns, g.Seq)
		}
	case bits == syn|ack:
		if !f.opened {
			f.forward = e.turned()
		}
		f.answered++
		f.answers = g.Ack - 1
	}
}

// sweep forgets connections that were opened and closed as they should be, to make room for
// others. Where that is not much, there are too many that are open.
func (s *scan) sweep(most int) {
	left := s.flows[:0]
	for _, f := range s.flows {
		if !f.opened || f.suspicious() || !f.ended[0] || !f.ended[1] {
			left = append(left, f)
			continue
		}
		delete(s.index, keyOf(f.node, f.forward))
		s.total -= f.packets
		if f.node == 0 {
			s.result.Seen++
			s.result.Fine++
		}
	}
	clear(s.flows[len(left):])
	s.full = len(left) > most-most/10
	s.flows = left
}

// suspicious reports whether a flow looks as if a connection had died.
func (f *flow) suspicious() bool {
	return f.reset || f.answered == 0 && f.syns > 0 || f.syns > len(f.isns)
}

func (s *scan) most() int {
	if s.options.MostPackets > 0 {
		return s.options.MostPackets
	}
	return defaultMost
}

// choose chooses the flows whose packets are kept, and finds those that are the same connection
// elsewhere.
func (s *scan) choose() {
	byNumber, byEnds := map[uint32]*flow{}, map[ends]*flow{}
	for _, f := range s.flows {
		for _, isn := range f.isns {
			if other := byNumber[isn]; other != nil {
				join(other, f)
			}
			byNumber[isn] = f
		}
		e := keyOf(0, f.forward).ends
		if other := byEnds[e]; other != nil {
			join(other, f)
		}
		byEnds[e] = f
	}
	s.answersFromElsewhere()
	all := s.total <= s.most()
	wanted := map[*flow]bool{}
	for _, f := range s.flows {
		if all || f.suspicious() {
			wanted[f.root()] = true
		}
	}
	left, budget := map[*flow]bool{}, s.most()
	for _, f := range s.flows {
		if !wanted[f.root()] || left[f.root()] {
			continue
		}
		if budget -= min(f.packets, mostOfOne); budget < 0 && !all {
			left[f.root()] = true
			continue
		}
		f.chosen = true
	}
	s.result.Left += len(left)
}

// answersFromElsewhere joins SYN-ACKs with the SYNs that they answer where they come from another
// address than the one that was called.
func (s *scan) answersFromElsewhere() {
	type caller struct {
		node int
		from netip.AddrPort
		isn  uint32
	}
	opened := map[caller]*flow{}
	for _, f := range s.flows {
		for _, isn := range f.isns {
			opened[caller{f.node, f.forward.src, isn}] = f
		}
	}
	for _, f := range s.flows {
		if other := opened[caller{f.node, f.forward.src, f.answers}]; other != nil && !f.opened && f.answered > 0 {
			join(other, f)
		}
	}
}

// keep keeps a segment of a flow that was chosen.
func (s *scan) keep(source int, g capture.Segment) {
	node := s.node(source)
	f := s.index[keyOf(node, ends{g.Src, g.Dst})]
	if f == nil || !f.chosen {
		return
	}
	if len(f.kept) >= mostOfOne {
		// Its beginning, and its end.
		f.cut = true
		s.kept[f.kept[headOfOne]].flow = nil
		f.kept = slices.Delete(f.kept, headOfOne, headOfOne+1)
	}
	g.Flags &= fin | syn | rst | ack | 1<<3 // without the bits of congestion notification
	f.kept = append(f.kept, len(s.kept))
	s.kept = append(s.kept, packet{Segment: g, node: node, source: source, flow: f})
}
