package client

import (
	"context"
	"fmt"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// after notes which TIME_WAITs are there after the second attempt. The client's
// connection exists at the listener only when its last ACK has arrived there.
func (r *samePort) after(ctx context.Context, second tcp.Result, seen *claim.Seen) error {
	if second.Outcome == tcp.Connected {
		if _, err := situation.Accept(ctx, r.server, r.listener, r.seenFrom()); err != nil {
			return fmt.Errorf("second connection: %w", err)
		}
	}
	left, err := r.ends(ctx)
	if err != nil {
		return err
	}
	left.timeWaits(seen, " after")
	return nil
}

// wire notes what was seen of the second attempt on the links.
func (r *samePort) wire(packets []observe.Packet, seen *claim.Seen) {
	account := observe.AccountSYNs(packets, r.path, r.source(), r.listener.Addr)
	var answers []string
	echo := "none"
	for _, syn := range account.SYNs {
		answers = append(answers, string(syn.Answer))
		switch {
		case !syn.Timestamp.Present:
		case syn.Timestamp.Echo == 0:
			echo = "zero"
		default:
			echo = "set"
		}
	}
	seen.Count("syns seen", int64(account.Reached))
	seen.Note("answers", strings.Join(answers, ", "))
	seen.Note("echo", echo)
}

// moves notes how the counters of the nodes have moved.
func (r *samePort) moves(moved []kernel.Counters, seen *claim.Seen) {
	seen.Moved = map[lab.Role]kernel.Counters{}
	for i, n := range r.nodes {
		seen.Moved[n.Identity().Role] = moved[i]
	}
	there := seen.Moved[r.server.Identity().Role]
	seen.Count("accepted", kernel.PassiveOpens.Of(there))
	seen.Count("paws rejects", kernel.PAWSRejects(there))
	seen.Count("nat clashes", kernel.NATClashes.Of(seen.Moved[lab.Gateway]))
}

// samePortEvidence is what [samePort.Drive] notes.
func samePortEvidence() []claim.Evidence {
	return []claim.Evidence{
		situation.TimestampsEvidence,
		{Name: "end", Unit: "FIN or RST", Means: "whether the first connection ended with a FIN or with a RST"},
		{Name: "client time-wait", Unit: situation.Sockets, Means: "TIME_WAITs that the first connection left at the client"},
		{Name: "balancer time-wait", Unit: situation.Sockets, Means: "TIME_WAITs that the first connection left at the balancer"},
		situation.OutcomeEvidence, situation.SYNsEvidence,
		{Name: "client time-wait after", Unit: situation.Sockets, Means: "TIME_WAITs of the same five-tuple at the client after the second attempt"},
		{Name: "balancer time-wait after", Unit: situation.Sockets, Means: "TIME_WAITs of the same five-tuple at the balancer after the second attempt"},
		{Name: "syns seen", Unit: situation.SYNs, Means: "how many SYNs of the second attempt arrived at the balancer"},
		situation.AnswersEvidence,
		{Name: "echo", Unit: "none, zero or set", Means: "the echo reply in the second SYN: set only if the port of a TIME_WAIT was taken over"},
		{Name: "accepted", Unit: "connections", Means: "how many connections were established at the balancer: PassiveOpens"},
		situation.PAWSRejectsEvidence,
		{Name: "nat clashes", Unit: "packets", Means: "how many packets the gateway dropped because no port was free: insert_failed"},
	}
}
