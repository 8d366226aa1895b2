package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"twlab/harness/load"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// timeouts is how long attempts wait for an answer.
type timeouts struct {
	givesUp time.Duration // when the kernel says ETIMEDOUT
	own     time.Duration // --timeout; 0 waits for the kernel
}

// report writes the result of the load.
func report(to io.Writer, r load.Result, nat gateway, p timeouts) {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	line := func(what string, count int64, note string) { fmt.Fprintf(table, "%s\t%d\t%s\n", what, count, note) }
	schedule := fmt.Sprintf("by %d clients in %v, seed %d", r.Clients, r.Took.Round(time.Millisecond), r.Seed)
	if r.Offered > 0 {
		schedule += fmt.Sprintf("; %s/s offered, %s/s begun, behind %v", rate(r.Offered), rate(r.Achieved), r.Behind)
	}
	line("attempts", int64(r.Attempts), schedule)
	for _, v := range slices.Sorted(maps.Keys(r.Outcomes)) {
		line("  "+string(v), int64(r.Outcomes[v]), p.explain(v, r))
	}
	f := situation.DispositionsOf(r)
	line("SYNs", f.Sent, "")
	for _, disposition := range []struct {
		what  string
		count int64
		note  string
	}{
		{"accepted", f.Accepted, ""},
		{"dropped by the gateway", f.Gateway, "no port: insert_failed"},
		{"refused for the timestamp", f.Clock, "by a TIME_WAIT of the balancer"},
		{"refused for the number", f.Number, "by a TIME_WAIT of the balancer"},
		{"dropped by the queue", f.Queue, "of the balancer: ListenOverflows"},
		{"refused by the endpoint", f.Closed, "no listener"},
		{"not accounted for", f.Missing(), "no counter says what happened to them"},
		{"counted too much", f.Surplus(), "packets other than SYNs: last ACKs at a full queue, RSTs to late packets"},
	} {
		if disposition.count != 0 {
			line("  "+disposition.what, disposition.count, disposition.note)
		}
	}
	_ = table.Flush() // to where errors are nobody's business, as with fmt.Fprintf
	fmt.Fprint(to, nat.reached(r, f))
	const soon = time.Second
	if late := r.Behind.Max(); late > soon {
		fmt.Fprintf(to, "the load was less than offered: attempts began up to %v late (because of --in-flight, or on a slow machine)\n", late.Round(time.Millisecond))
	}
	if n := len(r.Series); n > 0 {
		fmt.Fprintf(to, "at the end: %v\n", r.Series[n-1])
	}
}

// explain says what an application sees of an outcome.
func (p timeouts) explain(v tcp.Outcome, r load.Result) string {
	times := r.TookBy[v]
	switch v {
	case tcp.Connected:
		return fmt.Sprintf("%d late; %v", r.Late, times)
	case tcp.TimedOut:
		return fmt.Sprintf("ETIMEDOUT after %s", seconds(times.Quantile(0.5).Round(100*time.Millisecond)))
	case tcp.Undecided:
		return fmt.Sprintf("no answer in %s (--timeout); this kernel would say ETIMEDOUT after about %s", seconds(p.own), seconds(p.givesUp))
	case tcp.NoPort:
		return "EADDRNOTAVAIL at once: the client has no free port"
	case tcp.Refused:
		return "ECONNREFUSED"
	default:
		return times.String()
	}
}
