//go:build linux

package observe

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/kernel"
)

var (
	private  = netip.MustParseAddrPort("10.0.0.2:40001")
	public   = netip.MustParseAddrPort("10.20.0.1:40001")
	endpoint = netip.MustParseAddrPort("10.20.0.3:80")
)

const isn, answerISN, oldNext = 1000, 7000, 555

// tape is a list of packets written by hand.
type tape struct {
	packets []Packet
	now     time.Time
	id      uint16 // of the client's next SYN; 0: all SYNs have none
}

func newTape() *tape { return &tape{now: time.Unix(1000, 0).UTC(), id: 1} }

func (tp *tape) wait(d time.Duration) { tp.now = tp.now.Add(d) }

// see lets the packet be seen at a tap, a few microseconds after the one before.
func (tp *tape) see(point string, direction Direction, p Packet) {
	tp.now = tp.now.Add(3 * time.Microsecond)
	p.Point, p.Direction, p.Time = point, direction, tp.now
	tp.packets = append(tp.packets, p)
}

// toServer lets a packet from the client go as far as stations says (1: sent,
// 2: entered the gateway, 3: left it, 4: reached the server) with NAT or without.
func (tp *tape) toServer(p Packet, stations int, source netip.AddrPort) {
	p.Src, p.Dst = private, endpoint
	for i, s := range []struct {
		point     string
		direction Direction
	}{{"client0", Out}, {"gateway", In}, {"gateway", Out}, {"balancer", In}} {
		if i == stations {
			return
		}
		if i == 2 {
			p.Src = source
		}
		tp.see(s.point, s.direction, p)
	}
}

func (tp *tape) syn(stations int) {
	tp.toServer(Packet{Seq: isn, Flags: FlagSYN, ID: tp.id, Timestamp: TimestampOption{true, uint32(tp.now.UnixMilli()), 0}}, stations, public)
	if tp.id != 0 {
		tp.id++
	}
}

// toClient is the way back: 1: sent, 2: entered the gateway, 3: left it, 4: reached the client.
func (tp *tape) toClient(p Packet, stations int) {
	p.Src, p.Dst = endpoint, public
	for i, s := range []struct {
		point     string
		direction Direction
	}{{"balancer", Out}, {"gateway", In}, {"gateway", Out}, {"client0", In}} {
		if i == stations {
			return
		}
		if i == 2 {
			p.Dst = private
		}
		tp.see(s.point, s.direction, p)
	}
}

func synAck() Packet { return Packet{Seq: answerISN, Ack: isn + 1, Flags: FlagSYN | FlagACK} }
func oldAck() Packet { return Packet{Seq: 444, Ack: oldNext, Flags: FlagACK} }
func reset() Packet  { return Packet{Seq: oldNext, Flags: FlagRST} }
func refusal() Packet {
	return Packet{Ack: isn + 1, Flags: FlagRST | FlagACK}
}

var throughGateway = Path{Client: "client0", Gateways: []string{"gateway"}, Server: "balancer"}

func TestAccountSYNs(t *testing.T) {
	for name, c := range map[string]struct {
		tape func(*tape)
		want string
		also func(*testing.T, SYNAccount)
	}{
		"plain accept": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(synAck(), 4)
				tp.toServer(Packet{Seq: isn + 1, Ack: answerISN + 1, Flags: FlagACK, ID: 2}, 4, public)
				// Data, its ACK and the end are no answers to the SYN.
				tp.toServer(Packet{Seq: isn + 1, Ack: answerISN + 1, Flags: FlagACK | FlagPSH, ID: 3, Payload: 5}, 4, public)
				tp.toClient(Packet{Seq: answerISN + 1, Ack: isn + 6, Flags: FlagACK, ID: 9}, 4)
				tp.toClient(Packet{Seq: answerISN + 1, Ack: isn + 6, Flags: FlagACK | FlagFIN, ID: 10}, 4)
			},
			want: "1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: 1 answered by SYN-ACK",
			also: func(t *testing.T, a SYNAccount) {
				syn := a.SYNs[0]
				if syn.Sequence != isn || !syn.Timestamp.Present || syn.As != public || syn.AnsweredBy != "balancer" || !syn.AnswerReachedClient {
					t.Errorf("got %+v", syn)
				}
			},
		},
		"PAWS reject": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 4)
				tp.toServer(reset(), 4, public)
				tp.wait(8 * time.Millisecond)
				tp.syn(4)
				tp.toClient(synAck(), 4)
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001, 2 reached balancer: 1 answered by ACK, 1 by SYN-ACK; " +
				"1 RST sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer",
		},
		"RST not translated": {
			tape: func(tp *tape) {
				for range 2 {
					tp.syn(4)
					tp.toClient(oldAck(), 4)
					tp.toServer(reset(), 4, private)
					tp.wait(time.Second)
				}
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001, 2 reached balancer: 2 answered by ACK; " +
				"2 RST sent, 2 entered and 2 left gateway as 10.0.0.2:40001, 2 reached balancer",
			also: func(t *testing.T, a SYNAccount) {
				if r := a.SYNs[1].Reset; r.As != private || !r.Reached {
					t.Errorf("reset: got %+v", r)
				}
			},
		},
		"RST dropped by the gateway": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 4)
				tp.toServer(reset(), 2, private)
			},
			want: "1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: 1 answered by ACK; " +
				"1 RST sent, 1 entered and 0 left gateway, 0 reached balancer",
		},
		"answer dropped by the gateway": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 2)
				tp.wait(time.Second)
				tp.syn(4)
				tp.toClient(synAck(), 2)
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001, 2 reached balancer: " +
				"1 answered by ACK (0 reached the client), 1 by SYN-ACK (0 reached the client)",
		},
		"answer lost on the first link, others like it not": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 1)
				tp.toClient(Packet{Seq: oldAck().Seq, Ack: oldNext, Flags: FlagACK | FlagPSH, Payload: 1}, 4)
				tp.syn(4)
				tp.toClient(synAck(), 1)
				tp.toClient(Packet{Seq: answerISN, Ack: oldNext, Flags: FlagSYN | FlagACK}, 4)
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001, 2 reached balancer: " +
				"1 answered by ACK (0 reached the client), 1 by SYN-ACK (0 reached the client)",
		},
		"gateway swallows": {
			tape: func(tp *tape) {
				for range 3 {
					tp.syn(2)
					tp.wait(time.Second)
				}
			},
			want: "3 sent, 3 entered and 0 left gateway, 0 reached balancer: 3 not answered",
			also: func(t *testing.T, a SYNAccount) {
				if a.SYNs[0].As != private {
					t.Errorf("As: got %s, want the client's own address", a.SYNs[0].As)
				}
			},
		},
		"gateway rejects": {
			tape: func(tp *tape) {
				p := refusal()
				p.Src, p.Dst = endpoint, private
				for range 2 {
					tp.syn(2)
					tp.see("gateway", Out, p)
					tp.see("client0", In, p)
					tp.wait(time.Second)
				}
			},
			want: "2 sent, 2 entered and 0 left gateway, 0 reached balancer: 2 answered by RST from gateway",
		},
		"no listener": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(refusal(), 4)
			},
			want: "1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: 1 answered by RST",
		},
		"silent balancer": {
			tape: func(tp *tape) {
				for range 3 {
					tp.syn(4)
					tp.wait(time.Second)
				}
			},
			want: "3 sent, 3 entered and 3 left gateway as 10.20.0.1:40001, 3 reached balancer: 3 not answered",
		},
		"second of three lost before the balancer": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.wait(time.Second)
				tp.syn(3)
				tp.wait(time.Second)
				tp.syn(4)
				tp.toClient(synAck(), 4)
			},
			want: "3 sent, 3 entered and 3 left gateway as 10.20.0.1:40001, 2 reached balancer: 2 not answered, 1 answered by SYN-ACK",
			also: secondLost,
		},
		"second of three lost, no IP identification": {
			tape: func(tp *tape) {
				tp.id = 0
				tp.syn(4)
				tp.wait(time.Second)
				tp.syn(3)
				tp.wait(time.Second)
				tp.syn(4)
				tp.toClient(synAck(), 4)
			},
			want: "3 sent, 3 entered and 3 left gateway as 10.20.0.1:40001, 2 reached balancer: 2 not answered, 1 answered by SYN-ACK",
			also: secondLost,
		},
		"first overtaken by the second": {
			tape: func(tp *tape) {
				tp.syn(2)
				held := tp.packets[1]
				tp.wait(time.Second)
				tp.syn(4)
				tp.wait(time.Millisecond)
				held.Src = public
				tp.see("gateway", Out, held)
				tp.see("balancer", In, held)
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001, 2 reached balancer: 2 not answered",
		},
		"SYN-ACK again after a SYN that the gateway dropped": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(synAck(), 1)
				tp.wait(time.Second)
				tp.syn(2)
				tp.toClient(synAck(), 4)
			},
			want: "2 sent, 2 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: " +
				"1 answered by SYN-ACK (0 reached the client), 1 not answered",
		},
		"a RST that replies to nothing": {
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 4)
				tp.toServer(Packet{Seq: isn + 1, Flags: FlagRST, ID: 5}, 4, public)
			},
			want: "1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: 1 answered by ACK",
		},
		"an ACK only now and then": { // tcp_invalid_ratelimit
			tape: func(tp *tape) {
				tp.syn(4)
				tp.toClient(oldAck(), 4)
				tp.wait(100 * time.Millisecond)
				tp.syn(4)
				tp.wait(time.Second)
				tp.syn(4)
				tp.toClient(oldAck(), 4)
			},
			want: "3 sent, 3 entered and 3 left gateway as 10.20.0.1:40001, 3 reached balancer: 2 answered by ACK, 1 not answered",
			also: func(t *testing.T, a SYNAccount) {
				if a.SYNs[0].Answer != AnswerACK || a.SYNs[1].Answer != NoAnswer || a.SYNs[2].Answer != AnswerACK {
					t.Errorf("got answers %q %q %q", a.SYNs[0].Answer, a.SYNs[1].Answer, a.SYNs[2].Answer)
				}
			},
		},
		"NAT changes its mind": {
			tape: func(tp *tape) {
				tp.syn(4)
				other := netip.MustParseAddrPort("10.20.0.1:50000")
				tp.wait(time.Second)
				tp.toServer(Packet{Seq: isn, Flags: FlagSYN, ID: 2}, 4, other)
				tp.toClient(oldAck(), 2) // late, for the first
				p := synAck()
				p.Src, p.Dst = endpoint, other
				tp.see("balancer", Out, p)
				tp.see("gateway", In, p)
				p.Dst = private
				tp.see("gateway", Out, p)
				tp.see("client0", In, p)
			},
			want: "2 sent, 2 entered and 2 left gateway as 10.20.0.1:40001 and 10.20.0.1:50000, 2 reached balancer: " +
				"1 answered by ACK (0 reached the client), 1 by SYN-ACK",
		},
		"other traffic": {
			tape: func(tp *tape) {
				// What the old connection retransmits answers nothing.
				tp.syn(4)
				tp.toClient(Packet{Seq: 443, Ack: oldNext, Flags: FlagACK | FlagPSH, ID: 76, Payload: 1}, 4)
				tp.toClient(Packet{Seq: 443, Ack: oldNext, Flags: FlagACK | FlagSYN, ID: 76}, 4)
				tp.toClient(Packet{Seq: oldNext, Flags: FlagRST}, 4)
				tp.toClient(Packet{Ack: oldNext, Flags: FlagRST | FlagACK}, 4)
				tp.toClient(Packet{Seq: 443, Ack: oldNext, Flags: FlagACK | FlagFIN, ID: 77}, 4)
				// Another client with the same ISN comes through the same gateway.
				other := Packet{Src: netip.MustParseAddrPort("10.0.1.2:40001"), Dst: endpoint, Seq: isn, Flags: FlagSYN, ID: 900}
				tp.see("gateway", In, other)
				other.Src = netip.MustParseAddrPort("10.20.0.1:1303")
				tp.see("gateway", Out, other)
				tp.see("balancer", In, other)
				tp.see("balancer", Out, Packet{Src: endpoint, Dst: other.Src, Seq: 1, Ack: isn + 1, Flags: FlagSYN | FlagACK})
				// A bare ACK of the client leaves the gateway without translation.
				tp.see("gateway", Out, Packet{Src: private, Dst: endpoint, Seq: 5, Ack: 6, Flags: FlagACK})
			},
			want: "1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer: 1 not answered",
		},
		"lost on the first link, and another client's SYN that looks the same": {
			tape: func(tp *tape) {
				tp.id = 0
				tp.syn(1)
				other := Packet{Src: netip.MustParseAddrPort("10.0.1.2:40001"), Dst: endpoint, Seq: isn, Flags: FlagSYN}
				tp.see("gateway", In, other)
			},
			want: "1 sent, 0 entered and 0 left gateway, 0 reached balancer: 1 not answered",
		},
		"nothing": {tape: func(*tape) {}, want: "0 sent"},
	} {
		t.Run(name, func(t *testing.T) {
			tp := newTape()
			c.tape(tp)
			slices.Reverse(tp.packets) // the order of the list is of no account
			got := AccountSYNs(tp.packets, throughGateway, private, endpoint)
			if got.String() != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.also != nil && !t.Failed() {
				c.also(t, got)
			}
		})
	}
}

func secondLost(t *testing.T, a SYNAccount) {
	t.Helper()
	if !a.SYNs[0].Reached || a.SYNs[1].Reached || !a.SYNs[2].Reached || a.SYNs[2].Answer != AnswerSYNACK {
		t.Errorf("reached: got %v %v %v, answer to the third %q", a.SYNs[0].Reached, a.SYNs[1].Reached, a.SYNs[2].Reached, a.SYNs[2].Answer)
	}
}

// The second attempt uses the ports of the first; the caller marks where it began.
func TestAccountSYNsSinceMark(t *testing.T) {
	tp := newTape()
	tp.syn(4)
	tp.toClient(synAck(), 4)
	mark := len(tp.packets)
	tp.wait(time.Millisecond)
	tp.toServer(Packet{Seq: isn + 500, Flags: FlagSYN, ID: 50}, 4, public)
	tp.toClient(Packet{Seq: 444, Ack: oldNext, Flags: FlagACK}, 4)
	got := AccountSYNs(tp.packets[mark:], throughGateway, private, endpoint)
	if got.Sent != 1 || got.ACKs != 1 || got.SYNACKs != 0 || got.SYNs[0].Sequence != isn+500 {
		t.Errorf("since the mark: got %s", got)
	}
	if all := AccountSYNs(tp.packets, throughGateway, private, endpoint); all.Sent != 2 || all.ACKs != 1 || all.SYNACKs != 1 {
		t.Errorf("both: got %s", all)
	}
}

// A machine without a tap, such as another kernel in a virtual machine, is as
// good as the wire to it.
func TestAccountSYNsWithFewerTaps(t *testing.T) {
	tp := newTape()
	tp.syn(3) // not seen at the balancer, which here proves nothing
	p := oldAck()
	tp.toClient(p, 4)
	tp.toServer(reset(), 4, private)
	without := func(point string) []Packet {
		return slices.DeleteFunc(slices.Clone(tp.packets), func(p Packet) bool { return p.Point == point })
	}
	for _, c := range []struct {
		packets []Packet
		path    Path
		want    string
	}{
		{
			without("balancer"), Path{Client: "client0", Gateways: []string{"gateway"}},
			"1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001: 1 answered by ACK; 1 RST sent, 1 entered and 1 left gateway as 10.0.0.2:40001",
		},
		{
			without("client0"), Path{Gateways: []string{"gateway"}},
			"1 sent, 1 entered and 1 left gateway as 10.20.0.1:40001: 1 answered by ACK; 1 RST sent, 1 entered and 1 left gateway as 10.0.0.2:40001",
		},
	} {
		got := AccountSYNs(c.packets, c.path, private, endpoint)
		if got.String() != c.want || got.Reached != 1 {
			t.Errorf("%+v:\ngot  %s (%d reached)\nwant %s", c.path, got, got.Reached, c.want)
		}
	}
}

func TestAccountSYNsDirect(t *testing.T) {
	tp := newTape()
	syn := Packet{Src: private, Dst: endpoint, Seq: isn, Flags: FlagSYN, ID: 1}
	tp.see("client0", Out, syn)
	tp.see("balancer", In, syn)
	answer := synAck()
	answer.Src, answer.Dst = endpoint, private
	tp.see("balancer", Out, answer)
	tp.see("client0", In, answer)
	got := AccountSYNs(tp.packets, Path{Client: "client0", Server: "balancer"}, private, endpoint)
	if want := "1 sent, 1 reached balancer: 1 answered by SYN-ACK"; got.String() != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := (Way{Reached: true, As: private, To: endpoint}); !reflect.DeepEqual(got.SYNs[0].Way, want) {
		t.Errorf("way: got %+v, want %+v", got.SYNs[0].Way, want)
	}
}

// A silence has the rate limit for its reason only when the counters account for all
// silences, and for nothing else.
func TestSilencesAreExplainedByCounters(t *testing.T) {
	for _, c := range []struct {
		name   string
		server kernel.Counters
		second Answer
		says   string
	}{
		{"one left out", kernel.Counters{"TcpExt.TCPACKSkippedChallenge": 1}, AnswerLimited,
			"1 answered by ACK, 1 not answered because of the rate limit, 1 not answered"},
		{"none left out", kernel.Counters{"TcpExt.TCPACKSkippedChallenge": 0}, NoAnswer, "1 answered by ACK, 2 not answered"},
		{"two left out, one of which answered no SYN", kernel.Counters{"TcpExt.TCPACKSkippedSeq": 1, "TcpExt.TCPACKSkippedPAWS": 1}, NoAnswer,
			"1 answered by ACK, 2 not answered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tp := newTape()
			tp.syn(4)
			tp.toClient(oldAck(), 4)
			tp.wait(time.Second)
			tp.syn(4)
			tp.wait(time.Second)
			tp.syn(1) // lost on its way
			account := AccountSYNs(tp.packets, throughGateway, private, endpoint)
			account.Explain(c.server)
			if got := account.SYNs[1].Answer; got != c.second {
				t.Errorf("second SYN: %q, want %q", got, c.second)
			}
			if account.SYNs[0].Answer != AnswerACK || account.SYNs[2].Answer != NoAnswer {
				t.Errorf("the others have other answers than before: %+v", account.SYNs)
			}
			if !strings.Contains(account.String(), c.says) {
				t.Errorf("%q does not say %q", account, c.says)
			}
		})
	}
}

// hops are the ends of a packet behind each of three gateways: two that translate its
// source, and one that translates both.
var hops = []Tuple{
	{ipv6.private, ipv6.endpoint},
	{netip.MustParseAddrPort("[fd00:b::1]:1025"), ipv6.endpoint},
	{netip.MustParseAddrPort("[fd00:c::1]:40001"), ipv6.endpoint},
	{netip.MustParseAddrPort("[fd00:d::1]:7"), netip.MustParseAddrPort("[fd00:d::9]:8080")},
}

var throughThree = Path{Client: "client0", Gateways: []string{"near", "middle", "far"}, Server: "server"}

// walk lets a packet go from one station to another of the path with three gateways: 0 is
// the client, 1 and 2 are the sides of the first gateway, 7 is the server. It may go back.
func (tp *tape) walk(p Packet, from, to int) {
	points := []string{"client0", "near", "near", "middle", "middle", "far", "far", "server"}
	for i := from; ; {
		ends := hops[i/2]
		p.Src, p.Dst = ends.Src, ends.Dst
		leaves := i%2 == 0
		if from > to {
			p.Src, p.Dst, leaves = ends.Dst, ends.Src, !leaves
		}
		tp.see(points[i], map[bool]Direction{true: Out, false: In}[leaves], p)
		switch {
		case i == to:
			return
		case from < to:
			i++
		default:
			i--
		}
	}
}

func TestAccountOverSeveralGateways(t *testing.T) {
	syn := func(label uint32) Packet { return Packet{Seq: isn, Flags: FlagSYN, FlowLabel: label} }
	sources := func(n int) string {
		text := ""
		for i, name := range []string{"near", "middle", "far"} {
			if i < n {
				text += ", 1 entered and 1 left " + name + " as " + hops[i+1].Src.String()
			}
		}
		return text
	}
	for name, c := range map[string]struct {
		tape  func(*tape)
		want  string
		ended []string
	}{
		"accepted": {
			func(tp *tape) { tp.walk(syn(1), 0, 7); tp.walk(synAck(), 7, 0) },
			"1 sent" + sources(3) + ", 1 reached server: 1 answered by SYN-ACK", []string{"reached server"},
		},
		"the answer is dropped in the middle": {
			func(tp *tape) { tp.walk(syn(1), 0, 7); tp.walk(synAck(), 7, 4) },
			"1 sent" + sources(3) + ", 1 reached server: 1 answered by SYN-ACK (0 reached the client)", []string{"reached server"},
		},
		"dropped in the middle": {
			func(tp *tape) { tp.walk(syn(1), 0, 3) },
			"1 sent" + sources(1) + ", 1 entered and 0 left middle, 0 entered and 0 left far, 0 reached server: 1 not answered",
			[]string{"dropped by middle"},
		},
		"lost on a link": {
			func(tp *tape) { tp.walk(syn(1), 0, 4) },
			"1 sent" + sources(2) + ", 0 entered and 0 left far, 0 reached server: 1 not answered",
			[]string{"lost between middle and far"},
		},
		"lost on the first and on the last link": {
			func(tp *tape) { tp.walk(syn(1), 0, 0); tp.wait(time.Second); tp.walk(syn(2), 0, 6) },
			"2 sent" + sources(3) + ", 0 reached server: 2 not answered",
			[]string{"lost between client0 and near", "lost between far and server"},
		},
		"refused by the last gateway": {
			func(tp *tape) { tp.walk(syn(1), 0, 5); tp.walk(refusal(), 5, 0) },
			"1 sent" + sources(2) + ", 1 entered and 0 left far, 0 reached server: 1 answered by RST from far",
			[]string{"dropped by far"},
		},
		"refused by the one in the middle": {
			func(tp *tape) { tp.walk(syn(1), 0, 3); tp.walk(refusal(), 3, 0) },
			"1 sent" + sources(1) + ", 1 entered and 0 left middle, 0 entered and 0 left far, 0 reached server: 1 answered by RST from middle",
			[]string{"dropped by middle"},
		},
		"another client's SYN that looks the same leaves instead": {
			func(tp *tape) { tp.walk(syn(1), 0, 1); tp.walk(syn(2), 2, 7) },
			"1 sent, 1 entered and 0 left near, 0 entered and 0 left middle, 0 entered and 0 left far, 0 reached server: 1 not answered",
			[]string{"dropped by near"},
		},
		"an old connection is reset": {
			func(tp *tape) { tp.walk(syn(1), 0, 7); tp.walk(oldAck(), 7, 0); tp.walk(reset(), 0, 3) },
			"1 sent" + sources(3) + ", 1 reached server: 1 answered by ACK; 1 RST sent" + sources(1) +
				", 1 entered and 0 left middle, 0 entered and 0 left far, 0 reached server",
			[]string{"reached server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tp := newTape()
			c.tape(tp)
			slices.Reverse(tp.packets) // the order of the list is of no account
			got := AccountSYNs(tp.packets, throughThree, ipv6.private, ipv6.endpoint)
			if got.String() != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var ended []string
			for _, syn := range got.SYNs {
				ended = append(ended, throughThree.Ended(syn.Way))
			}
			if !slices.Equal(ended, c.ended) {
				t.Errorf("ended: got %q, want %q", ended, c.ended)
			}
		})
	}
}

func TestPathNames(t *testing.T) {
	gateways := []string{"near", "far"}
	for _, c := range []struct {
		path               Path
		toClient, toServer string
	}{
		{Path{Client: "client0", Gateways: gateways, Server: "server"}, "client0", "server"},
		{Path{Gateways: gateways}, "near", "far"},
		{Path{Client: "client0"}, "client0", "client0"},
		{Path{Server: "server"}, "server", "server"},
		{},
	} {
		if c.path.NearestToClient() != c.toClient || c.path.NearestToServer() != c.toServer {
			t.Errorf("%+v: got %q and %q", c, c.path.NearestToClient(), c.path.NearestToServer())
		}
	}
	if got, want := (Path{}).Ended(Way{}), "lost between the client and the server"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
