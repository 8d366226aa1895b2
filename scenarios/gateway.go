package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// The axes of the family of the gateway's choice, and the values that its driver
// and its rules share.
const (
	gatewayEntry  = "entry"
	gatewayClient = "client"
	gatewayPool   = "pool"
	gatewaySource = "source"
	gatewayISN    = "isn"
	gatewayLeft   = "left"
	gatewayHold   = "hold"
	gatewayClock  = "clock"
	gatewayLBTS   = "lb-ts"
	gatewayRandom = "random"

	poolAll = "all"
	poolOne = "one"
	poolFew = "few"

	randomNo    = "no"
	randomPlain = "random"
	randomFully = "fully"

	// fewPorts are so few that a client whose SYN meets a TIME_WAIT on each of them,
	// and removes it by its RST, has a SYN left for when there is none any more.
	fewPorts uint16 = 2
)

// gatewayRetries is how often a client repeats its SYN where that is to get it in:
// one may die on the gateway, fewPorts be rejected, and then one gets in.
const gatewayRetries = 3

// Gateway is the family of the gateway's choice: which port a MASQUERADE gateway
// gives to a new connection after earlier ones to the same door.
func Gateway() Family {
	return Family{
		Name:     "gateway",
		Evidence: giveawayEvidence(),
		About: "Connections through a MASQUERADE gateway are over or still there, and a new one comes to the same door: " +
			"does the gateway give it the port of an earlier one, which the balancer may still keep in TIME_WAIT, " +
			"does it choose another, or does the SYN die on the gateway?",
		Axes: []Axis{
			{Name: gatewayEntry, Values: []string{"expired", "kept"}, Product: true,
				Means: "what the gateway still has of the earlier connections when the new one comes: nothing, or their conntrack entries"},
			{Name: gatewayClient, Values: []string{"other", "same"}, Product: true,
				Means: "who makes the new connection: another client behind the gateway, or the one that made the earlier ones"},
			{Name: gatewayPool, Values: []string{poolAll, poolOne, poolFew}, Product: true,
				Means: "the ports that the gateway may give: all; one (--to-ports); two, each of which has an earlier connection"},
			{Name: gatewaySource, Values: []string{"same", "other"}, Product: true,
				Means: "the client's source port of the new connection: that of an earlier one, or another"},
			{Name: gatewayISN, Values: []string{string(Newer), string(Older)},
				Means: "the new connection's initial sequence number against the last one of the earlier connections"},
			{Name: gatewayLBTS, Values: []string{"1", "0"}, Knob: Knob{Role: lab.Balancer, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the balancer"},
			{Name: gatewayRandom, Values: []string{randomNo, randomPlain, randomFully},
				Means: "how the gateway chooses: the client's own port when it can be had; by --random; by --random-fully"},
			{Name: gatewayLeft, Values: []string{string(LeftTimeWait), string(LeftEstablished), string(LeftNothing)},
				Means: "what the earlier connections have left at the balancer"},
			{Name: gatewayHold, Values: []string{"1", "30", "120"},
				Knob:  Knob{Role: lab.Gateway, Sysctl: "net.netfilter.nf_conntrack_tcp_timeout_time_wait"},
				Means: "for how many seconds the gateway keeps the entry of an ended connection; the kernel's default is 120"},
			{Name: gatewayClock, Values: []string{string(Newer), string(Older)},
				Means: "the new connection's timestamp against the last one of the earlier connections"},
		},
		Crossed: [][]string{
			{gatewayEntry, gatewayClient, gatewayISN, gatewayLBTS},
			{gatewayEntry, gatewayPool, gatewaySource, gatewayISN, gatewayLBTS},
			{gatewayEntry, gatewayPool, gatewaySource, gatewayClock},
			{gatewayEntry, gatewayClient, gatewayClock},
			{gatewayEntry, gatewayRandom, gatewaySource},
			{gatewayRandom, gatewayISN, gatewayLBTS},
			{gatewayRandom, gatewayClock},
			{gatewayRandom, gatewayLeft},
			{gatewayRandom, gatewayPool},
			{gatewayEntry, gatewayClient, gatewayLeft, gatewayHold},
			{gatewayEntry, gatewayPool, gatewayLeft, gatewayHold},
		},
		Impossible: []Impossible{
			{Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(LeftEstablished)}}},
				"the entry of a connection that stands lasts for five days, whatever is held after its end"},
			{Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(LeftTimeWait)}, gatewayHold: {"120"}}},
				"the balancer's TIME_WAIT is over after 60 s, long before an entry that lasts for 120 s"},
			{Cells{{gatewayEntry: {"kept"}, gatewayLeft: {string(LeftNothing)}, gatewayHold: {"1", "30"}}},
				"an entry that lasts for less than 60 s is gone before the balancer's TIME_WAIT is over"},
		},
		Waits: []Wait{
			{Cells{{gatewayEntry: {"expired"}, gatewayLeft: {string(LeftNothing)}, gatewayHold: {"120"}}}, 120 * time.Second},
			{Cells{{gatewayLeft: {string(LeftNothing)}}}, TimeWaitLength},
			{Cells{{gatewayEntry: {"expired"}, gatewayHold: {"30"}}}, 30 * time.Second},
			{Cells{{gatewayEntry: {"kept"}, gatewaySource: {"same"}, gatewayPool: {poolOne, poolFew}}}, 7 * time.Second},
		},
		Rules:    gatewayRules(),
		Topology: gatewayTopology,
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			g, err := giveawayOf(ctx, c, l)
			if err != nil {
				return Seen{}, err
			}
			return g.drive(ctx)
		},
	}
}

func gatewayTopology(c Cell) lab.Topology {
	t := lab.Topology{
		Clients: 2, Names: []string{"phone-a", "phone-b"},
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade},
		// Few retries: a client that is shut out soon gives up. One clock
		// for all, without offsets, so that it says what is newer.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=2", "net.ipv4.tcp_timestamps=2").
			// The RST by which a client removes a TIME_WAIT is out of the window
			// for some gateways (see the tuple family); here it is not to matter.
			On(lab.Gateway, "net.netfilter.nf_conntrack_tcp_be_liberal=1"),
	}
	if c.Is(gatewayLeft, string(LeftTimeWait)) && (c.Is(gatewayPool, poolFew) || c.Is(gatewayHold, "1")) {
		t.Sysctls = t.Sysctls.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_syn_retries=%d", gatewayRetries))
	}
	if c.Is(gatewayClient, "same") {
		t.Clients, t.Names = 1, t.Names[:1]
	}
	switch c.Value(gatewayPool) {
	case poolOne:
		t.Gateway.Ports = lab.PortRange{First: sourcePort, Last: sourcePort}
	case poolFew:
		t.Gateway.Ports = lab.PortRange{First: sourcePort, Last: sourcePort + fewPorts - 1}
	}
	switch c.Value(gatewayRandom) {
	case randomPlain:
		t.Gateway.Random = lab.Random
	case randomFully:
		t.Gateway.Random = lab.FullyRandom
	}
	return t
}

func giveawayOf(ctx context.Context, c Cell, l *lab.Lab) (*giveaway, error) {
	clients, gateways := l.Nodes(lab.Client), l.Nodes(lab.Gateway)
	if len(gateways) == 0 {
		return nil, errors.New("giveaway: want a gateway")
	}
	hold, err := holdTime(ctx, gateways[0])
	if err != nil {
		return nil, fmt.Errorf("giveaway: %w", err)
	}
	g := &giveaway{
		lab:      l,
		first:    clients[0],
		second:   clients[len(clients)-1],
		gateway:  gateways[0],
		balancer: l.Balancer(),
		earlier:  1,
		left:     Left(c.Value(gatewayLeft)),
		forgets:  c.Is(gatewayEntry, "expired"),
		hold:     hold,
		clock:    Order(c.Value(gatewayClock)),
		isn:      Order(c.Value(gatewayISN)),
		from:     sourcePort,
		draws:    c.Is(gatewayPool, poolAll) && !c.Is(gatewayRandom, randomNo),
		listed: c.Is(gatewayEntry, "kept") && c.Is(gatewayPool, poolOne) && c.Is(gatewaySource, "same") &&
			c.Is(gatewayRandom, randomNo) && c.Is(gatewayLeft, string(LeftTimeWait)) && c.Is(gatewayHold, "1"),
	}
	if c.Is(gatewayPool, poolFew) {
		g.earlier = fewPorts
	}
	if c.Is(gatewaySource, "other") {
		g.from = otherPort
	}
	if g.left == LeftEstablished && g.first == g.second && g.from == sourcePort {
		g.draws = false // it already has a port
	}
	return g, nil
}

// gatewayRules are in this order: whose port is given again, and why; whose SYN
// dies; who gets another port.
func gatewayRules() []Rule {
	over := Where{gatewayLeft: {string(LeftTimeWait), string(LeftNothing)}}
	kept := Cells{{gatewayEntry: {"kept"}}}
	expired := Cells{{gatewayEntry: {"expired"}}}
	again := Cells{{gatewayClient: {"same"}, gatewaySource: {"same"}}} // an earlier connection's own address and port
	small := []string{poolOne, poolFew}
	random := []string{randomPlain, randomFully}
	// Where the client's own port is asked for first, and where a port is searched
	// for: a pool of one that is asked for its port is not searched.
	keeps := Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomNo}}}
	draws := Cells{{gatewayPool: {poolAll}, gatewayRandom: random}}
	searched := Cells{
		{gatewayPool: {poolFew}}, {gatewayPool: {poolOne}, gatewaySource: {"other"}}, {gatewayPool: {poolOne}, gatewayRandom: random},
	}
	// A small pool is exhausted while its entries are there, but not for the
	// client who comes again: that one has an entry to give.
	exhausted := both(kept, Cells{
		{gatewayPool: small, gatewaySource: {"other"}},
		{gatewayPool: small, gatewayClient: {"other"}},
	})
	evictable := both(both(exhausted, searched), Cells{over}).And(Where{gatewayISN: {string(Newer)}})
	reopened := both(both(kept, again), Cells{over})
	unknown := Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomFully}}}

	timeWait := Cells{{gatewayLeft: {string(LeftTimeWait)}}}
	rejects := both(timeWait, Cells{
		{gatewayLBTS: {"1"}, gatewayClock: {string(Older)}},
		{gatewayLBTS: {"0"}, gatewayISN: {string(Older)}},
	})
	short := both(exhausted, Cells{{gatewayLeft: {string(LeftTimeWait)}, gatewayHold: {"1"}}})
	outlived := both(short, searched)
	redrawn := Cells{{gatewayPool: {poolFew}, gatewaySource: {"other"}}, {gatewayPool: {poolFew}, gatewayRandom: random}}

	given, metTimeWait := Is("port", portSame), Is("met", string(observe.TimeWait))
	getsIn := verdict(tcp.Connected)
	unclashed := Stays(lab.Gateway, "Conntrack.insert_failed")
	diedOnce := []Expectation{
		given, metTimeWait, Is("first answer", "nothing"), Exactly("gateway Conntrack.insert_failed", 1),
	}
	drawnAgain := []Expectation{
		given, metTimeWait, Is("first answer", string(observe.AnswerACK)), Between("syns", 2, int64(fewPorts)+1), getsIn, unclashed,
		Rises(lab.Client, "Tcp.OutRsts"),
	}
	free := func(port string) []Expectation {
		return []Expectation{
			verdict(tcp.Connected), Is("port", port), Is("met", "nothing"), Is("answers", "SYN-ACK"), Exactly("syns", 1),
			unclashed, Exactly("paws rejects", 0), Is("owner", "the new connection"), Stays(lab.Client, "Tcp.OutRsts"),
		}
	}

	rules := []Rule{
		{
			Name:  "gateway-standing-entry-challenged",
			Cells: both(both(kept, again), Cells{{gatewayLeft: {string(LeftEstablished)}}}),
			Want: []Expectation{
				verdict(tcp.Connected), given, Is("met", string(observe.Established)), Is("answers", "ACK, SYN-ACK"), unclashed,
				Rises(lab.Balancer, "Tcp.EstabResets"), Rises(lab.Client, "Tcp.OutRsts"),
			},
			Because: "a client that has lost its memory and comes from the port of a connection that stands is translated by the entry " +
				"of that, so the balancer sees the same five-tuple and challenges it",
			Source: "nf_conntrack_tcp_packet: a SYN is ignored in sES; RFC 5961 section 4",
		},
		{
			Name: "gateway-evicts-draws-again", Kernels: []Condition{Has(lab.Gateway, EvictsClosing)},
			Cells: both(both(evictable, rejects), Cells{{gatewayPool: {poolFew}}}),
			Want:  drawnAgain,
			Because: "an exhausted pool gives the port of a closing connection; when the balancer rejects that, the RST ends the gateway's " +
				"entry too, and the next SYN is drawn a port anew, which may be that of another TIME_WAIT, until none is left",
			Source: "commit 4589725502871; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
		{
			Name:  "gateway-pool-draws-again",
			Cells: both(both(append(expired, reopened...), redrawn), rejects),
			Want:  drawnAgain,
			Because: "in a small pool every port is in TIME_WAIT at the balancer; when that rejects the SYN, the RST ends the gateway's " +
				"entry too, and the next SYN is drawn a port anew, which may be that of another TIME_WAIT, until none is left",
			Source: "nf_nat_l4proto_unique_tuple; nf_conntrack_tcp_packet: a SYN after the same side's RST makes a new entry",
		},
	}

	for _, g := range []gift{
		{
			name:    "gateway-forgot",
			cells:   both(expired, append(keeps.And(Where{gatewaySource: {"same"}}), Where{gatewayPool: small})),
			because: "a gateway whose entry has run out gives the port to whoever asks for it",
			source:  "nf_conntrack_tcp_timeout_time_wait; get_unique_tuple",
		},
		{
			name:  "gateway-reopens",
			cells: both(reopened, append(keeps, Where{gatewayPool: small})),
			because: "a SYN of the same client and port replaces the entry of its own closed connection, whatever the pool, " +
				"and the port that this sets free is given to it",
			source: "nf_conntrack_tcp_packet: nf_ct_kill and NF_REPEAT for a SYN in TIME_WAIT",
		},
		{
			name: "gateway-evicts", cells: evictable, kernels: []Condition{Has(lab.Gateway, EvictsClosing)},
			because: "a gateway that searches and finds no free port takes that of a closing connection " +
				"whose last sequence number is older than the new one",
			source: "commit 4589725502871, nf_nat_used_tuple_harder, nf_seq_has_advanced",
		},
		{
			name: "gateway-hash", kernels: []Condition{Has(lab.Gateway, DrawsByHash)},
			cells: both(append(expired, reopened...), Cells{{gatewayPool: {poolAll}, gatewayRandom: {randomPlain}}}),
			because: "--random begins its search at a hash of the addresses and the door, the same for all clients, " +
				"so that a port that is free again is the first to be found",
			source: "nf_nat_l4proto_unique_tuple and secure_ipv4_port_ephemeral before commit 203f2e78200c",
		},
		{
			name: "gateway-fully-unknown", kernels: []Condition{Lacks(lab.Gateway, DrawsFully)},
			cells:   both(append(both(expired, Cells{{gatewaySource: {"same"}}}), reopened...), unknown),
			because: "a kernel that does not know --random-fully ignores it and keeps the client's port when it is free",
			source:  "get_unique_tuple before commit 34ce324019e7",
		},
	} {
		rules = append(rules, g.rules()...)
	}

	return append(rules, []Rule{
		{
			Name:  "gateway-clash-outlived-draws-again",
			Cells: both(both(outlived, redrawn), rejects),
			Want:  with([]Expectation{getsIn, Between("syns", 3, gatewayRetries+1)}, diedOnce...),
			Because: "the first SYN dies on the gateway, the second comes after the entries have run out and meets a TIME_WAIT, " +
				"and when that rejects it, the third is drawn a port anew, until no TIME_WAIT is left",
			Source: "nf_nat_l4proto_unique_tuple; __nf_conntrack_confirm",
		},
		{
			Name:  "gateway-clash-outlived-rejected",
			Cells: both(outlived, rejects),
			Want:  with([]Expectation{verdict(tcp.Connected), Is("answers", "nothing, ACK, SYN-ACK")}, diedOnce...),
			Because: "the first SYN dies on the gateway, the second comes a second later, when the entry has run out, " +
				"and is rejected by the balancer's TIME_WAIT; the third gets in",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT; tcp_timewait_state_process",
		},
		{
			Name:  "gateway-clash-outlived",
			Cells: outlived,
			Want:  with([]Expectation{verdict(tcp.Connected), Is("answers", "nothing, SYN-ACK"), Exactly("paws rejects", 0)}, diedOnce...),
			Because: "the first SYN dies on the gateway, the second comes a second later, when the entry has run out, " +
				"is given the port, and the balancer's TIME_WAIT accepts it",
			Source: "__nf_conntrack_confirm; TCP_TIMEOUT_INIT",
		},
		{
			Name:  "gateway-clash-lingers",
			Cells: short,
			Want: []Expectation{
				getsIn, given, metTimeWait, Is("first answer", "nothing"), Between("syns", 2, gatewayRetries+1),
				Between("gateway Conntrack.insert_failed", 1, gatewayRetries),
			},
			Because: "the SYN dies on the gateway, and the next gets through when the entry has run out and is out of the table too: without a search " +
				"nobody notices it there, until a garbage collector or, as here, whoever lists the table removes it",
			Source: "__nf_conntrack_confirm does not ask nf_ct_is_expired as nf_conntrack_tuple_taken does; gc_worker; " +
				"commit f330a7fdbe16, netfilter: conntrack: get rid of conntrack timer",
		},
		{
			Name:  "gateway-clash",
			Cells: exhausted,
			Want: []Expectation{
				verdict(tcp.TimedOut), Is("port", portNone), AtLeast("syns", 3), Exactly("syns past the gateway", 0),
				AtLeast("gateway Conntrack.insert_failed", 3), Stays(lab.Balancer, "Tcp.InSegs"), Is("owner", "an earlier connection"),
			},
			Because: "a gateway that has no free port and must not or cannot evict settles on a taken one, notices it when the packet leaves, " +
				"and drops it: the SYN dies on the gateway and the balancer never sees it",
			Source: "nf_nat_l4proto_unique_tuple gives up with a duplicate; __nf_conntrack_confirm, insert_failed; " +
				"get_unique_tuple takes a range of one port unseen",
		},
		{
			Name: "gateway-fully-unknown-another-port", Kernels: []Condition{Lacks(lab.Gateway, DrawsFully)},
			Cells:   both(both(kept, unknown), Cells{{gatewayClient: {"other"}, gatewaySource: {"same"}}}),
			Want:    free(portNew),
			Because: "a kernel that does not know --random-fully ignores it and goes on to another port when the client's own is taken",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name: "gateway-fully-unknown-own-port", Kernels: []Condition{Lacks(lab.Gateway, DrawsFully)},
			Cells:   unknown.And(Where{gatewaySource: {"other"}}),
			Want:    free(portOwn),
			Because: "a kernel that does not know --random-fully ignores it and keeps the client's port when it is free",
			Source:  "get_unique_tuple before commit 34ce324019e7",
		},
		{
			Name:  "gateway-another-port",
			Cells: both(both(kept, keeps), Cells{{gatewayClient: {"other"}, gatewaySource: {"same"}}}),
			Want:  free(portNew),
			Because: "as long as the gateway has the entry, open or closed, another client with the same port is given another one, " +
				"and the balancer sees a five-tuple that it does not know",
			Source: "get_unique_tuple, nf_nat_used_tuple",
		},
		{
			Name: "gateway-own-port", Cells: keeps.And(Where{gatewaySource: {"other"}}), Want: free(portOwn),
			Because: "a client whose port nobody has keeps it",
			Source:  "get_unique_tuple",
		},
		{
			Name: "gateway-draws", Cells: draws, Want: free(portNew),
			Because: "a port drawn out of 64512 is that of an earlier connection once in 64512 times",
			Source:  "nf_nat_l4proto_unique_tuple; commit 203f2e78200c for --random",
		},
	}...)
}

// gift is a reason for which a gateway gives the port of an ended connection to
// a new one.
type gift struct {
	name            string
	cells           Cells
	kernels         []Condition
	because, source string
}

// rules say what the balancer does with the SYN that comes from that port.
func (g gift) rules() []Rule {
	timeWait := []string{string(LeftTimeWait)}
	want := []Expectation{
		verdict(tcp.Connected), Is("port", portSame), Is("owner", "the new connection"), Stays(lab.Gateway, "Conntrack.insert_failed"),
	}
	atOnce := with([]Expectation{Is("answers", "SYN-ACK"), Exactly("paws rejects", 0), Stays(lab.Client, "Tcp.OutRsts")}, want...)
	inTheEnd := with([]Expectation{Is("answers", "ACK, SYN-ACK"), Rises(lab.Client, "Tcp.OutRsts")}, want...)
	met := Is("met", string(observe.TimeWait))

	var rules []Rule
	for _, r := range []Rule{
		{
			Name: "-nothing-left", Cells: Cells{{gatewayLeft: {string(LeftNothing)}}},
			Want:    with([]Expectation{Is("met", "nothing")}, atOnce...),
			Because: "after 60 s the balancer has nothing left of the earlier connection",
			Source:  "TCP_TIMEWAIT_LEN",
		},
		{
			Name: "-older-stamp", Cells: Cells{{gatewayLeft: timeWait, gatewayLBTS: {"1"}, gatewayClock: {string(Older)}}},
			Want:    with([]Expectation{met, AtLeast("paws rejects", 1)}, inTheEnd...),
			Because: "the balancer's TIME_WAIT rejects the older timestamp by an ACK, the client's RST removes it, and the next SYN gets in",
			Source:  "tcp_timewait_state_process, RFC 7323 section 5",
		},
		{
			Name: "-older-number", Cells: Cells{{gatewayLeft: timeWait, gatewayLBTS: {"0"}, gatewayISN: {string(Older)}}},
			Want: with([]Expectation{met, Exactly("paws rejects", 0)}, inTheEnd...),
			Because: "without timestamps the balancer's TIME_WAIT rejects the older sequence number by an ACK, the client's RST removes it, " +
				"and the next SYN gets in",
			Source: "tcp_timewait_state_process, RFC 1122 section 4.2.2.13",
		},
		{
			Name: "-accepted", Cells: Cells{
				{gatewayLeft: timeWait, gatewayLBTS: {"1"}, gatewayClock: {string(Newer)}},
				{gatewayLeft: timeWait, gatewayLBTS: {"0"}, gatewayISN: {string(Newer)}},
			},
			Want:    with([]Expectation{met}, atOnce...),
			Because: "the balancer's TIME_WAIT accepts the newer timestamp, or without timestamps the newer sequence number",
			Source:  "tcp_timewait_state_process, RFC 6191",
		},
	} {
		r.Name, r.Cells, r.Kernels = g.name+r.Name, both(g.cells, r.Cells), g.kernels
		r.Because, r.Source = g.because+"; "+r.Because, g.source+"; "+r.Source
		if len(r.Cells) > 0 {
			rules = append(rules, r)
		}
	}
	return rules
}

// both is the set of cells that are in a and in b.
func both(a, b Cells) Cells {
	var cells Cells
	for _, x := range a {
		for _, y := range b {
			if w, meet := x.and(y); meet {
				cells = append(cells, w)
			}
		}
	}
	return cells
}

// and matches what both match; they do not meet when an axis is left without a
// value.
func (w Where) and(other Where) (both Where, meet bool) {
	both = Where{}
	for axis, values := range w {
		both[axis] = values
	}
	for axis, values := range other {
		if own, named := w[axis]; named {
			values = intersect(own, values)
		}
		if len(values) == 0 {
			return nil, false
		}
		both[axis] = values
	}
	return both, true
}

func intersect(a, b []string) []string {
	var common []string
	for _, v := range a {
		if slices.Contains(b, v) {
			common = append(common, v)
		}
	}
	return common
}
