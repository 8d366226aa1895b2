package situation

import (
	"bytes"
	"strconv"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
)

// Dispositions says what became of every SYN of a load. Each number is of evidence of its own,
// so that nothing makes them add up but the truth; only Number is the rest of what is
// evidence of two. None is negative.
type Dispositions struct {
	// Sent are all SYNs of the clients, retransmissions included.
	Sent int64
	// Accepted became connections of the balancer.
	Accepted int64
	// Gateway were dropped by the gateway, which had no port for them.
	Gateway int64
	// Clock and Number were rejected by a TIME_WAIT, for the timestamp or for
	// the sequence number.
	Clock, Number int64
	// Queue were dropped by the balancer, whose accept queue was full.
	Queue int64
	// Closed were refused by the balancer: nobody listens there.
	Closed int64
}

// DispositionsOf reads the dispositions off the counters.
//
// Every reject of a TIME_WAIT is answered by an ACK, and that by the client's RST; for
// the timestamp it has a counter as well, so that the other RSTs are for the number. Of
// the clients' RSTs those that end connections are none of these. Where the balancer had
// no TIME_WAIT at any time, none can have rejected anything.
//
// ListenOverflows counts the last ACK of a handshake too, when the queue has filled up
// since its SYN; such an ACK shows as [Dispositions.Surplus].
func DispositionsOf(r load.Result) Dispositions {
	client, gateway, balancer := r.Moved[lab.Client], r.Moved[lab.Gateway], r.Moved[lab.Balancer]
	f := Dispositions{
		Sent:     int64(r.SYNs),
		Accepted: kernel.PassiveOpens.Of(balancer),
		Gateway:  kernel.NATClashes.Of(gateway),
		Queue:    kernel.ListenOverflows.Of(balancer),
		// A refused attempt is over, so each had one RST; the balancer sends RSTs
		// to others as well.
		Closed: min(int64(r.Outcomes[tcp.Refused]), kernel.ResetsSent.Of(balancer)),
	}
	if !hadTimeWait(r) {
		return f
	}
	f.Clock = kernel.PAWSRejects(balancer)
	answers := kernel.ResetsSent.Of(client) - aborted(r)
	f.Number = max(0, answers-f.Clock)
	return f
}

// aborted is how many connections the clients ended by a RST. TCPAbortOnData counts
// them (tcp_close), and with them the attempts that were given up in SYN_SENT, which
// send none.
func aborted(r load.Result) int64 {
	n := kernel.AbortedOnData.Of(r.Moved[lab.Client])
	return max(0, n-int64(r.Outcomes[tcp.Undecided]))
}

// hadTimeWait tells whether the balancer had a TIME_WAIT at any time at which somebody
// looked. It lasts a minute, and somebody looks in every interval.
func hadTimeWait(r load.Result) bool {
	if r.TimeWaitBefore[lab.Balancer] > 0 {
		return true
	}
	for _, row := range r.Series {
		if row.TimeWait[lab.Balancer] > 0 {
			return true
		}
	}
	return false
}

// counted is how many SYNs the account knows the disposition of.
func (f Dispositions) counted() int64 {
	return f.Accepted + f.Gateway + f.Clock + f.Number + f.Queue + f.Closed
}

// Missing is how many SYNs no evidence accounts for, such as one that was still on its
// way, and Surplus how much more there is evidence of than was sent, such as an ACK that
// was taken for a SYN. One of them is 0, and Sent + Surplus is all dispositions + Missing.
func (f Dispositions) Missing() int64 { return max(0, f.Sent-f.counted()) }

// Surplus is explained at [Dispositions.Missing].
func (f Dispositions) Surplus() int64 { return max(0, f.counted()-f.Sent) }

// Unaccounted is how far the account is from coming out even.
func (f Dispositions) Unaccounted() int64 { return f.Missing() + f.Surplus() }

// Note adds the account of the load to what was seen: attempts by outcome, SYNs
// by disposition.
func (f Dispositions) Note(seen *claim.Seen, r load.Result) {
	seen.Count("connected", int64(r.Outcomes[tcp.Connected]))
	seen.Count("late", int64(r.Late))
	seen.Count("failed", int64(r.Failed()))
	seen.Count("timed out", int64(r.Outcomes[tcp.TimedOut]))
	seen.Count("undecided", int64(r.Outcomes[tcp.Undecided]))
	seen.Count(RefusedBy(ByClient), int64(r.Outcomes[tcp.NoPort]))
	seen.Count(RefusedBy(ByGateway), f.Gateway)
	seen.Count(RefusedBy(ByClock), f.Clock)
	seen.Count(RefusedBy(ByNumber), f.Number)
	seen.Count(RefusedBy(ByQueue), f.Queue)
	seen.Count(RefusedBy(ByEndpoint), f.Closed)
	seen.Count("unaccounted", f.Unaccounted())
	seen.Note("seed", strconv.FormatUint(r.Seed, 10))
	seen.Note("latency", r.Latency.String())
	seen.Moved = r.Moved
	var series bytes.Buffer
	_ = load.WriteSeries(&series, r.Series) // to memory
	seen.Series = append(seen.Series, series.Bytes()...)
}

// Who refuses connections.
const (
	ByClient   = "client"
	ByGateway  = "gateway"
	ByClock    = "clock"
	ByNumber   = "number"
	ByQueue    = "queue"
	ByEndpoint = "endpoint"
)

// RefusedBy is the evidence that counts the refusals of one.
func RefusedBy(who string) string { return "refused by the " + who }

// LoadEvidence is what [Dispositions.note] notes of a load.
func LoadEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "connected", Unit: Attempts, Means: "attempts that connected"},
		{Name: "late", Unit: Attempts, Means: "attempts that connected, but not by their first SYN"},
		FailedEvidence,
		{Name: "timed out", Unit: Attempts, Means: "attempts that ended with ETIMEDOUT"},
		{Name: "undecided", Unit: Attempts, Means: "attempts that had no outcome when our own budget ended"},
		{Name: RefusedBy(ByClient), Unit: Attempts, Means: "attempts for which the client had no port: EADDRNOTAVAIL"},
		{Name: RefusedBy(ByGateway), Unit: SYNs, Means: "what the gateway dropped for want of a port: insert_failed"},
		{Name: RefusedBy(ByClock), Unit: SYNs, Means: "what a TIME_WAIT rejected for its timestamp"},
		{Name: RefusedBy(ByNumber), Unit: SYNs, Means: "what a TIME_WAIT rejected for its sequence number: RSTs of the clients that nothing else explains"},
		{Name: RefusedBy(ByQueue), Unit: SYNs, Means: "what the balancer dropped because its accept queue was full: ListenOverflows"},
		{Name: RefusedBy(ByEndpoint), Unit: SYNs, Means: "what the balancer answered by a RST because nobody listens"},
		{Name: "unaccounted", Unit: SYNs, Means: "SYNs sent less all of which it is known what became of them"},
		{Name: "seed", Unit: "a number", Means: "what the order of the clients was drawn with", Aside: true},
		{Name: "latency", Unit: "text", Means: "how long the attempts took", Aside: true},
	}
}

// LoadTimeWaits is evidence that only some loads leave.
var LoadTimeWaits = claim.Evidence{Name: "time-waits", Unit: Sockets, Means: "TIME_WAITs that the balancer had when the last load came"}
