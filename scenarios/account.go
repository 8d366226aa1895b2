package scenarios

import (
	"strconv"

	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// Fates says what became of every SYN of a crowd. Each number is of a witness of
// its own, so that nothing makes them add up but the truth.
type Fates struct {
	// Sent are all SYNs of the clients, retransmissions included (TCP_INFO).
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

// FatesOf reads the fates off the counters. Every reject of a TIME_WAIT is
// answered by an ACK, and that by the client's RST, which is told from those that
// end connections (tcp_disconnect counts them in TCPAbortOnData); for the timestamp
// it has a counter as well.
func FatesOf(r crowd.Result) Fates {
	client, gateway, balancer := r.Moved[lab.Client], r.Moved[lab.Gateway], r.Moved[lab.Balancer]
	clock := pawsRejects(balancer)
	return Fates{
		Sent:     int64(r.SYNs),
		Accepted: passiveOpens.of(balancer),
		Gateway:  natClashes.of(gateway),
		Clock:    clock,
		Number:   resetsSent.of(client) - abortedOnData.of(client) - clock,
		Queue:    listenOverflows.of(balancer),
		Closed:   resetsSent.of(balancer),
	}
}

// Unaccounted is how many SYNs are missing from the account, or too many in it.
func (f Fates) Unaccounted() int64 {
	return f.Sent - f.Accepted - f.Gateway - f.Clock - f.Number - f.Queue - f.Closed
}

// note adds the account of the crowd to what was seen: attempts by verdict, SYNs
// by fate.
func (f Fates) note(seen *Seen, r crowd.Result) {
	seen.Count("connected", int64(r.Verdicts[tcp.Connected]))
	seen.Count("late", int64(r.Late))
	seen.Count("failed", int64(r.Failed()))
	seen.Count("timed out", int64(r.Verdicts[tcp.TimedOut]))
	seen.Count("undecided", int64(r.Verdicts[tcp.Undecided]))
	seen.Count(refusedBy(byClient), int64(r.Verdicts[tcp.NoPort]))
	seen.Count(refusedBy(byGateway), f.Gateway)
	seen.Count(refusedBy(byClock), f.Clock)
	seen.Count(refusedBy(byNumber), f.Number)
	seen.Count(refusedBy(byQueue), f.Queue)
	seen.Count(refusedBy(byDoor), f.Closed)
	seen.Count("unaccounted", f.Unaccounted())
	seen.Note("seed", strconv.FormatUint(r.Seed, 10))
	seen.Note("latency", r.Latency.String())
	seen.Moved = r.Moved
	seen.Series = append(seen.Series, r.Series...)
}
