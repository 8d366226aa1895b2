package situation

import (
	"math/rand/v2"
	"testing"
	"testing/quick"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
)

// known is a load of which the truth is known: what became of each SYN, and what else
// there was that moves the same counters.
type known struct {
	truth     Dispositions
	outcomes  map[tcp.Outcome]int
	aborted   int // connections that clients ended by a RST
	timeWaits int // of the balancer, at any time
	resets    int // RSTs of the balancer to others than refused attempts
}

// randomLoad is a load of some attempts, each of which sends a SYN until it is accepted
// or refused, or gives up.
func randomLoad(random *rand.Rand) known {
	l := known{outcomes: map[tcp.Outcome]int{}}
	aborts := random.IntN(3) == 0
	if !aborts && random.IntN(2) == 0 {
		l.timeWaits = 1 + random.IntN(50)
	}
	l.resets = random.IntN(3)
	most := 1 + random.IntN(7) // SYNs of an attempt
	for range 1 + random.IntN(60) {
		outcome := []tcp.Outcome{tcp.TimedOut, tcp.Undecided}[random.IntN(2)]
		for range most {
			l.truth.Sent++
			disposition := random.IntN(6)
			if l.timeWaits == 0 && (disposition == 2 || disposition == 3) {
				disposition = 1
			}
			switch disposition {
			case 0:
				l.truth.Accepted++
				outcome = tcp.Connected
			case 1:
				l.truth.Gateway++
			case 2:
				l.truth.Clock++
			case 3:
				l.truth.Number++
			case 4:
				l.truth.Queue++
			default:
				l.truth.Closed++
				outcome = tcp.Refused
			}
			if outcome == tcp.Connected || outcome == tcp.Refused {
				break
			}
		}
		if outcome == tcp.Connected && aborts {
			l.aborted++
		}
		l.outcomes[outcome]++
	}
	return l
}

// result is what the kernels count of the load.
func (l known) result() load.Result {
	t := l.truth
	count := func(n int64) uint64 { return uint64(n) }
	return load.Result{
		SYNs: int(t.Sent), Outcomes: l.outcomes,
		Moved: map[lab.Role]kernel.Counters{
			lab.Client: {
				"Tcp.OutRsts": count(t.Clock + t.Number + int64(l.aborted)),
				// tcp_close counts those that are given up, too.
				"TcpExt.TCPAbortOnData": count(int64(l.aborted + l.outcomes[tcp.Undecided])),
			},
			lab.Gateway: {"Conntrack.insert_failed": count(t.Gateway)},
			lab.Balancer: {
				"Tcp.PassiveOpens": count(t.Accepted), "TcpExt.PAWSTimewait": count(t.Clock), "TcpExt.ListenOverflows": count(t.Queue),
				"Tcp.OutRsts": count(t.Closed + int64(l.resets)),
			},
		},
		Series: []load.Row{{TimeWait: map[lab.Role]int{lab.Balancer: l.timeWaits}}},
	}
}

func TestTheAccountIsTheTruth(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(2000) {
		l := randomLoad(rand.New(rand.NewPCG(seed, i)))
		got := DispositionsOf(l.result())
		if got != l.truth || got.Missing() != 0 || got.Surplus() != 0 {
			t.Fatalf("seed %d, load %d %+v: got %+v", seed, i, l, got)
		}
	}
}

// Whatever the counters say, no number is negative and the sum is right.
func TestNoAccountHasANegativeNumber(t *testing.T) {
	right := func(sent uint16, outcomes [3]uint8, client, gateway, balancer [6]uint16, timeWait, before bool) bool {
		r := load.Result{
			SYNs:     int(sent),
			Outcomes: map[tcp.Outcome]int{tcp.Refused: int(outcomes[0]), tcp.Undecided: int(outcomes[1]), tcp.Connected: int(outcomes[2])},
			Moved:    map[lab.Role]kernel.Counters{lab.Client: {}, lab.Gateway: {}, lab.Balancer: {}}, TimeWaitBefore: map[lab.Role]int{},
		}
		for i, name := range []string{
			"Tcp.OutRsts", "TcpExt.TCPAbortOnData", "Tcp.PassiveOpens", "TcpExt.PAWSTimewait", "TcpExt.ListenOverflows", "Conntrack.insert_failed",
		} {
			r.Moved[lab.Client][name], r.Moved[lab.Gateway][name], r.Moved[lab.Balancer][name] = uint64(client[i]), uint64(gateway[i]), uint64(balancer[i])
		}
		if timeWait {
			r.Series = []load.Row{{TimeWait: map[lab.Role]int{lab.Balancer: 1}}}
		}
		if before {
			r.TimeWaitBefore[lab.Balancer] = 1
		}
		f := DispositionsOf(r)
		sum := int64(0)
		for _, n := range []int64{f.Accepted, f.Gateway, f.Clock, f.Number, f.Queue, f.Closed, f.Missing()} {
			if n < 0 {
				return false
			}
			sum += n
		}
		none := timeWait || before || f.Clock == 0 && f.Number == 0
		return none && f.Surplus() >= 0 && f.Sent+f.Surplus() == sum
	}
	if err := quick.Check(right, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}
