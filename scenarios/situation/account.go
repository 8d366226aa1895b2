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

// Dispositions says what happened to every SYN of a load. Each number comes from its own
// counter, so the numbers add up only if they are true. Only Number is calculated: the
// RSTs of the clients less Clock. No number is negative.
type Dispositions struct {
	// Sent are all SYNs of the clients, retransmissions included.
	Sent int64
	// Accepted are those that became connections at the balancer.
	Accepted int64
	// Gateway are those that the gateway dropped because it had no free port.
	Gateway int64
	// Clock and Number are those that a TIME_WAIT rejected, for the timestamp or for
	// the sequence number.
	Clock, Number int64
	// Queue are those that the balancer dropped because its accept queue was full.
	Queue int64
	// Closed are those that the balancer refused because the port has no listener.
	Closed int64
}

// DispositionsOf reads the dispositions off the counters.
//
// A TIME_WAIT answers every SYN that it rejects with an ACK, and the client answers that
// ACK with a RST. Rejects for the timestamp have a counter as well, so the other RSTs are
// for the sequence number. RSTs with which the clients end connections do not count. If
// the balancer had no TIME_WAIT at any time, no TIME_WAIT can have rejected anything.
//
// ListenOverflows also counts the last ACK of a handshake, if the queue has become full
// since its SYN. Such an ACK appears in [Dispositions.Surplus].
func DispositionsOf(r load.Result) Dispositions {
	client, gateway, balancer := r.Moved[lab.Client], r.Moved[lab.Gateway], r.Moved[lab.Balancer]
	f := Dispositions{
		Sent:     int64(r.SYNs),
		Accepted: kernel.PassiveOpens.Of(balancer),
		Gateway:  kernel.NATClashes.Of(gateway),
		Queue:    kernel.ListenOverflows.Of(balancer),
		// A refused attempt ends at once, so each got one RST. The balancer sends
		// other RSTs as well.
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

// aborted is how many connections the clients ended with a RST. TCPAbortOnData counts
// them (tcp_close). It also counts the attempts that were given up in SYN_SENT, which
// send no RST.
func aborted(r load.Result) int64 {
	n := kernel.AbortedOnData.Of(r.Moved[lab.Client])
	return max(0, n-int64(r.Outcomes[tcp.Undecided]))
}

// hadTimeWait tells whether the balancer had a TIME_WAIT before the load or at the end of
// any interval. A TIME_WAIT lasts a minute, so no interval misses one.
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

// counted is how many SYNs have a known disposition.
func (f Dispositions) counted() int64 {
	return f.Accepted + f.Gateway + f.Clock + f.Number + f.Queue + f.Closed
}

// Missing is how many SYNs have no known disposition, such as one that was still on its
// way. Surplus is how many more dispositions than SYNs there are, because of an ACK that
// was counted as a SYN, for example. One of the two is 0, and Sent + Surplus is the sum of
// all dispositions + Missing.
func (f Dispositions) Missing() int64 { return max(0, f.Sent-f.counted()) }

// Surplus is explained at [Dispositions.Missing].
func (f Dispositions) Surplus() int64 { return max(0, f.counted()-f.Sent) }

// Unaccounted is the difference between the SYNs and their dispositions.
func (f Dispositions) Unaccounted() int64 { return f.Missing() + f.Surplus() }

// Note adds the numbers of the load to what was seen: attempts by outcome, SYNs by
// disposition.
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

// RefusedBy is the name of the evidence that counts the refusals by one of them.
func RefusedBy(who string) string { return "refused by the " + who }

// LoadEvidence is what [Dispositions.Note] notes of a load.
func LoadEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "connected", Unit: Attempts, Means: "attempts that connected"},
		{Name: "late", Unit: Attempts, Means: "attempts that connected, but not with their first SYN"},
		FailedEvidence,
		{Name: "timed out", Unit: Attempts, Means: "attempts that ended with ETIMEDOUT"},
		{Name: "undecided", Unit: Attempts, Means: "attempts without a result when the driver's own time limit ended"},
		{Name: RefusedBy(ByClient), Unit: Attempts, Means: "attempts for which the client had no free port: EADDRNOTAVAIL"},
		{Name: RefusedBy(ByGateway), Unit: SYNs, Means: "SYNs that the gateway dropped because no port was free: insert_failed"},
		{Name: RefusedBy(ByClock), Unit: SYNs, Means: "SYNs that a TIME_WAIT rejected for their timestamp"},
		{Name: RefusedBy(ByNumber), Unit: SYNs, Means: "SYNs that a TIME_WAIT rejected for their sequence number: the clients' RSTs that have no other cause"},
		{Name: RefusedBy(ByQueue), Unit: SYNs, Means: "SYNs that the balancer dropped because its accept queue was full: ListenOverflows"},
		{Name: RefusedBy(ByEndpoint), Unit: SYNs, Means: "SYNs that the balancer answered with a RST because the port has no listener"},
		{Name: "unaccounted", Unit: SYNs, Means: "the difference between the SYNs that were sent and the SYNs that the numbers above explain"},
		{Name: "seed", Unit: "a number", Means: "the seed of the random order of the clients", Aside: true},
		{Name: "latency", Unit: "text", Means: "how long the attempts took", Aside: true},
	}
}

// LoadTimeWaits is evidence that only some families of loads note.
var LoadTimeWaits = claim.Evidence{Name: "time-waits", Unit: Sockets, Means: "TIME_WAITs that the balancer had when the last load began"}
