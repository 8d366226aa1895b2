package diagnose

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"twlab/harness/recording"
)

// crowd makes a load behind a gateway that translates: attempts, their packets, and what the
// counters say of them.
type crowd struct {
	r        recording.Recording
	attempts []Attempted
	now      time.Time
	counters map[string]map[string]uint64
	// want are the attempts that were not fine, by the ends of their SYNs.
	want map[string]int
}

var (
	crowdServer  = netip.MustParseAddrPort("10.0.0.9:80")
	crowdGateway = netip.MustParseAddr("10.0.0.8")
)

func newCrowd() *crowd {
	began := time.Unix(1_800_000_000, 0).UTC()
	w := &crowd{now: began, want: map[string]int{}, counters: map[string]map[string]uint64{"gateway": {}, "server": {}, "client0": {}, "client1": {}}}
	w.r = recording.Recording{Began: began, Nodes: map[string]recording.Node{
		"client0": {Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}, "client1": {Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}},
		"gateway": {Addresses: []netip.Addr{crowdGateway}}, "server": {Addresses: []netip.Addr{crowdServer.Addr()}},
	}}
	return w
}

// see is a packet at each of these places, as "node in" or "node out".
func (w *crowd) see(p recording.Packet, inside, outside netip.AddrPort, back bool, at ...string) {
	for _, place := range at {
		var side string
		if _, err := fmt.Sscanf(place, "%s %s", &p.Point, &side); err != nil {
			panic(err)
		}
		p.Out = side == "out"
		peer := inside
		if p.Point == "server" || p.Point == "gateway" && p.Out != back {
			peer = outside
		}
		p.Interface = "lan"
		if p.Point == "gateway" && peer == outside {
			p.Interface = "wan"
		}
		p.Src, p.Dst = peer, crowdServer
		if back {
			p.Src, p.Dst = crowdServer, peer
		}
		w.now = w.now.Add(10 * time.Microsecond)
		p.Time = w.now
		w.r.Packets = append(w.r.Packets, p)
	}
}

// attempt makes one with a SYN for each of the ends: "port" is dropped by the gateway, for want of
// one, "queue" by the server's listener, "reset" is answered by a RST, "in" connects.
func (w *crowd) attempt(i int, syns ...string) {
	client := fmt.Sprintf("client%d", i%2)
	inside := netip.AddrPortFrom(w.r.Nodes[client].Addresses[0], uint16(20_000+i)) //nolint:gosec // few
	outside := netip.AddrPortFrom(crowdGateway, uint16(30_000+i))                  //nolint:gosec // few
	isn := uint32(i) * 1000                                                        //nolint:gosec // few
	a := Attempted{Began: w.now, Attempt: recording.Attempt{Node: client, Local: inside, Remote: crowdServer, SYNs: len(syns), Outcome: "TimedOut"}}
	for _, end := range syns {
		w.now = w.now.Add(time.Second) // the first repetition comes so late
		way := []string{client + " out", "gateway in", "gateway out", "server in"}
		if end == "port" {
			way = way[:2]
			w.counters["gateway"]["Conntrack.insert_failed"]++
			w.counters["gateway"]["Conntrack.drop"]++
		}
		w.see(recording.Packet{Flags: "S", Seq: isn}, inside, outside, false, way...)
		answer := recording.Packet{Flags: "S.", Seq: 7, Ack: isn + 1}
		switch end {
		case "queue":
			w.counters["server"]["TcpExt.ListenOverflows"]++
		case "reset":
			answer.Flags = "R."
			w.counters["server"]["Tcp.OutRsts"]++
			a.Outcome, a.Errno = "Refused", "ECONNREFUSED"
		case "in":
			a.Outcome = "Connected"
		}
		if end == "reset" || end == "in" {
			w.see(answer, inside, outside, true, "server out", "gateway in", "gateway out", client+" in")
		}
	}
	a.Decided = w.now
	w.attempts = append(w.attempts, a)
	w.now = w.now.Add(time.Second)
	lost := slices.DeleteFunc(slices.Clone(syns), func(end string) bool { return end == "in" })
	slices.Sort(lost)
	if len(lost) > 0 {
		w.want[fmt.Sprint(slices.Compact(lost))]++
	}
}

// shares are the causes, of attempts that are told in batches.
func (w *crowd) shares(batches int) (t Tally, all []Share) {
	for part := range slices.Chunk(w.attempts, (len(w.attempts)+batches-1)/batches) {
		t.Add(&w.r, part)
	}
	before, after := map[string]recording.State{}, map[string]recording.State{}
	for node, counters := range w.counters {
		before[node], after[node] = recording.State{Counters: map[string]uint64{}}, recording.State{Counters: counters}
	}
	return t, t.Shares(before, after)
}

// names are how the causes of the ends are told.
var names = map[string]string{
	"[port]": "snat-exhausted", "[queue]": "accept-queue-full", "[reset]": "no-listener", "[port queue]": "accept-queue-full and snat-exhausted",
}

// Every attempt that did not connect at once is counted once, with the causes of its SYNs.
func TestTallyCountsEveryAttempt(t *testing.T) {
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not for secrets
		w := newCrowd()
		fine := 0
		for i := range 60 {
			switch ends := []string{"port", "queue"}; chance.IntN(5) {
			case 0:
				fine++
				w.attempt(i, "in")
			case 1:
				w.attempt(i, "reset")
			default:
				var syns []string
				for range 1 + chance.IntN(4) {
					syns = append(syns, ends[chance.IntN(2)])
				}
				if chance.IntN(2) == 0 {
					syns = append(syns, "in")
				}
				w.attempt(i, syns...)
			}
		}
		tally, shares := w.shares(1 + chance.IntN(6))
		got, sum := map[string]int{}, 0
		for _, s := range shares {
			got[s.Cause] += s.Attempts
			sum += s.Attempts
		}
		if tally.Fine() != fine || sum != len(w.attempts)-fine {
			t.Errorf("seed %d: %d fine and %d others, want %d and %d", seed, tally.Fine(), sum, fine, len(w.attempts)-fine)
		}
		for ends, n := range w.want {
			if got[names[ends]] != n {
				t.Errorf("seed %d: %d attempts of %q, want %d; all: %v", seed, got[names[ends]], names[ends], n, got)
			}
		}
	}
}

// The SYN of an attempt that follows at once from the same port is not counted with the one before.
func TestTallyOfAPortUsedAgain(t *testing.T) {
	w := newCrowd()
	w.attempt(0, "reset")
	first := w.attempts[0]
	w.now = first.Decided.Add(-time.Second + apart/2)
	w.attempt(0, "reset")
	var tally Tally
	tally.Add(&w.r, []Attempted{first})
	for at, n := range tally.sent {
		if n != 1 {
			t.Errorf("%d SYNs of one attempt ended at %+v", n, at)
		}
	}
}

// Counters that do not account for the SYNs, and packets that are missing, prove nothing, and
// lose no attempt.
func TestTallyOfWhatIsNotWhole(t *testing.T) {
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // not for secrets
		w := newCrowd()
		for i := range 40 {
			w.attempt(i, []string{"port", "queue", "reset"}[i%3])
		}
		w.counters["gateway"]["Conntrack.insert_failed"]++ // of somebody else
		w.counters["server"]["TcpExt.ListenOverflows"] = 0
		w.r.Packets = slices.DeleteFunc(w.r.Packets, func(recording.Packet) bool { return chance.IntN(100) < 5*int(seed) }) //nolint:gosec // below 100
		_, shares := w.shares(3)
		sum := 0
		for _, s := range shares {
			sum += s.Attempts
			if s.Status == Proved && s.Cause != "no-listener" {
				t.Errorf("seed %d: %d attempts are %s", seed, s.Attempts, s.Cause)
			}
		}
		if sum != 40 {
			t.Errorf("seed %d: %d attempts, want 40", seed, sum)
		}
	}
}

// A drop of which the kernel told nothing is one of those at its place, if these are all alike.
func TestTallyOfADropWithoutAReason(t *testing.T) {
	at := func(reason string) place { return place{node: "gateway", end: Stopped, reason: reason} }
	one := Tally{sent: map[place]int{at("NETFILTER_DROP"): 47, at(""): 1, {node: "server", end: Delivered}: 5}}
	two := Tally{sent: map[place]int{at("NETFILTER_DROP"): 47, at(""): 1, at("NO_SOCKET"): 2}}
	for _, reason := range []string{"NETFILTER_DROP", ""} {
		if n := one.sentTo(at(reason)); n != 48 {
			t.Errorf("one reason, asked for %q: %d SYNs, want 48", reason, n)
		}
	}
	if n := two.sentTo(at("NETFILTER_DROP")); n != 47 {
		t.Errorf("two reasons: %d SYNs, want 47", n)
	}
}
