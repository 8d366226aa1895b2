package scenarios

import (
	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/tcp"
)

// fates says what became of every SYN of a crowd. Each number is of a witness of
// its own, so that nothing makes them add up but the truth.
type fates struct {
	sent     int64 // by the clients, retransmissions included (TCP_INFO)
	accepted int64 // connections that the balancer made of them
	gateway  int64 // dropped by the gateway: no port
	clock    int64 // rejected by a TIME_WAIT for their timestamp
	number   int64 // rejected by a TIME_WAIT for their sequence number
	queue    int64 // dropped by the balancer: accept queue full
	closed   int64 // refused by the balancer: no listener
}

// fatesOf reads the fates off the counters. Every reject of a TIME_WAIT is
// answered by an ACK, and that by the client's RST; for the timestamp it has a
// counter as well. No connection of the crowd may end by a RST of the client.
func fatesOf(r crowd.Result) fates {
	client, gateway, balancer := r.Moved[lab.Client], r.Moved[lab.Gateway], r.Moved[lab.Balancer]
	clock := balancer[PAWSReject(balancer)]
	return fates{
		sent:     int64(r.SYNs),
		accepted: int64(balancer["Tcp.PassiveOpens"]),
		gateway:  int64(gateway["Conntrack.insert_failed"]),
		clock:    int64(clock),
		number:   int64(client["Tcp.OutRsts"]) - int64(clock),
		queue:    int64(balancer["TcpExt.ListenOverflows"]),
		closed:   int64(balancer["Tcp.OutRsts"]),
	}
}

// unaccounted is how many SYNs are missing from the account, or too many in it.
func (f fates) unaccounted() int64 {
	return f.sent - f.accepted - f.gateway - f.clock - f.number - f.queue - f.closed
}

// note adds the account of the crowd to what was seen, as differences to be
// expected: attempts by verdict, SYNs by fate.
func (f fates) note(seen *Seen, r crowd.Result) {
	seen.Count("connected", int64(r.Verdicts[tcp.Connected]))
	seen.Count("late", int64(r.Late))
	seen.Count("failed", int64(r.Failed()))
	seen.Count("timed out", int64(r.Verdicts[tcp.TimedOut]))
	seen.Count("undecided", int64(r.Verdicts[tcp.Undecided]))
	seen.Count(refusedBy(byClient), int64(r.Verdicts[tcp.NoPort]))
	seen.Count(refusedBy(byGateway), f.gateway)
	seen.Count(refusedBy(byClock), f.clock)
	seen.Count(refusedBy(byNumber), f.number)
	seen.Count(refusedBy(byQueue), f.queue)
	seen.Count(refusedBy(byDoor), f.closed)
	seen.Count("unaccounted", f.unaccounted())
	seen.Note("latency", r.Latency.String())
	seen.Moved = r.Moved
	seen.Series = append(seen.Series, r.Series...)
}
