package proxy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// countReplies notes which responses the client got.
func (r *proxiedRun) countReplies(seen *claim.Seen) error {
	var whole, truncated, broken, unanswered, givenUp, failed, noPort, lost int64
	for _, x := range r.done {
		switch x.Outcome {
		case tcp.Connected:
		case tcp.NoPort:
			noPort++
			continue
		default:
			return fmt.Errorf("a request's connection: %v", x.Result)
		}
		for _, reply := range x.Replies {
			switch {
			case reply.Disposition == http.Malformed:
				return fmt.Errorf("a response: %s", reply.Problem)
			case reply.Disposition == http.Pending:
				givenUp++
			case reply.Status == 0:
				unanswered++
			case reply.Status != 200:
				failed++
			case reply.Disposition == http.Whole:
				whole++
			case reply.Disposition == http.Truncated:
				truncated++
			case reply.Disposition == http.Broken:
				broken++
			}
			lost += int64(r.Server.HTTP.Body) - reply.Bytes
		}
	}
	seen.Count("whole", whole)
	seen.Count("truncated", truncated)
	seen.Count("broken", broken)
	seen.Count("unanswered", unanswered)
	seen.Count("given up", givenUp)
	seen.Count("errors", failed)
	seen.Count("no port", noPort)
	seen.Count("bytes lost", lost)
	return nil
}

// countSockets notes which side has the TIME_WAITs, and which other sockets are left.
func (r *proxiedRun) countSockets(ctx context.Context, seen *claim.Seen) error {
	client, err := r.client.Sockets(ctx)
	if err != nil {
		return err
	}
	balancer, err := r.balancer.Sockets(ctx)
	if err != nil {
		return err
	}
	front, back := r.sides(balancer)
	seen.Count("client TIME_WAIT", int64(len(client.In(observe.TimeWait))))
	seen.Count("frontend TIME_WAIT", int64(len(front.In(observe.TimeWait))))
	seen.Count("backend TIME_WAIT", int64(len(back.In(observe.TimeWait))))
	clientRoutes := map[situation.Route]bool{}
	for _, x := range r.done {
		if x.Outcome == tcp.Connected {
			clientRoutes[situation.Route{From: x.Local, To: r.listener}] = true
		}
	}
	seen.Count("client ports", int64(len(clientRoutes)))
	seen.Note("client ports in frontend TIME_WAIT", situation.HowMany(clientRoutes, situation.Waiting(front, false)))
	atServers, backendRoutes := map[situation.Route]bool{}, map[situation.Route]bool{}
	for i, n := range r.servers {
		if n == r.balancer { // its sockets are counted as the frontend's
			continue
		}
		all, err := n.Sockets(ctx)
		if err != nil {
			return err
		}
		maps.Copy(atServers, situation.Waiting(all, false))
		served, err := n.Served(ctx, r.listening[i])
		if err != nil {
			return err
		}
		for peer := range served.Peers {
			backendRoutes[situation.Route{From: peer, To: r.at[i]}] = true
		}
	}
	seen.Count("server TIME_WAIT", int64(len(atServers)))
	seen.Count("backend ports", int64(len(backendRoutes)))
	seen.Note("backend ports in backend TIME_WAIT", situation.HowMany(backendRoutes, situation.Waiting(back, true)))
	seen.Note("backend ports in server TIME_WAIT", situation.HowMany(backendRoutes, atServers))
	seen.Count("kept", int64(len(back.In(observe.Established))))
	return nil
}

// sides separates the balancer's sockets: those at its listener, and those towards the
// servers.
func (r *proxiedRun) sides(all observe.Sockets) (front, back observe.Sockets) {
	for _, s := range all {
		if s.Local == r.listener {
			front = append(front, s)
		} else {
			back = append(back, s)
		}
	}
	return front, back
}

// stats are HAProxy's own statistics; none if the balancer is not HAProxy.
func (r *proxiedRun) stats(ctx context.Context) (kernel.Counters, error) {
	if r.program == nil {
		return nil, nil
	}
	return r.program.Stats(ctx)
}

// askProgram notes HAProxy's own statistics and log.
func (r *proxiedRun) askProgram(ctx context.Context, seen *claim.Seen, before kernel.Counters) error {
	if r.program == nil {
		return nil
	}
	after, err := r.program.Stats(ctx)
	if err != nil {
		return err
	}
	moved := after.Sub(before)
	for _, name := range []string{"econ", "wretr", "eresp", "cli_abrt", "srv_abrt"} {
		seen.Count(name, int64(moved["backend."+name]))
	}
	log, err := r.program.Log()
	if err != nil {
		return err
	}
	ends := map[string]bool{}
	var longest int64
	for word := range strings.FieldsSeq(log) {
		if end, found := strings.CutPrefix(word, "end="); found {
			ends[end] = true
		}
		if total, found := strings.CutPrefix(word, "total="); found {
			if ms, err := strconv.ParseInt(total, 10, 64); err == nil {
				longest = max(longest, ms)
			}
		}
	}
	seen.Note("log", strings.Join(slices.Sorted(maps.Keys(ends)), " "))
	seen.Count("longest session", longest)
	return nil
}

// proxiedEvidence is what [Proxied.Drive] notes. The last ones exist only with HAProxy.
func proxiedEvidence() []claim.Evidence {
	return []claim.Evidence{
		{Name: "whole", Unit: situation.Requests, Means: "responses of status 200 that arrived complete, as far as the client can know"},
		{Name: "truncated", Unit: situation.Requests, Means: "responses that a FIN ended too early"},
		{Name: "broken", Unit: situation.Requests, Means: "responses that a RST ended too early"},
		{Name: "unanswered", Unit: situation.Requests, Means: "requests that got a FIN or a RST instead of a response"},
		{Name: "given up", Unit: situation.Requests, Means: "requests whose response the client did not wait for"},
		{Name: "errors", Unit: situation.Requests, Means: "responses with a status other than 200"},
		situation.NoPortEvidence, situation.BytesLost,
		{Name: "client ports", Unit: "ports", Means: "how many ports the client used", Aside: true},
		situation.ClientWaits,
		{Name: "frontend TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the balancer towards the client"},
		{Name: "client ports in frontend TIME_WAIT", Unit: situation.ShareOfPorts, Means: "whether the balancer has all, some or none of the client's five-tuples in TIME_WAIT"},
		{Name: "backend TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the balancer towards the servers"},
		{Name: "backend ports in backend TIME_WAIT", Unit: situation.ShareOfPorts, Means: "whether the balancer has all, some or none of the five-tuples towards the servers in TIME_WAIT"},
		{Name: "backend ports in server TIME_WAIT", Unit: situation.ShareOfPorts, Means: "whether the servers have all, some or none of the same five-tuples in TIME_WAIT"},
		{Name: "server TIME_WAIT", Unit: situation.Sockets, Means: "TIME_WAITs of the servers"},
		{Name: "backend ports", Unit: "ports", Means: "from how many ports the servers got connections"},
		{Name: "kept", Unit: situation.Sockets, Means: "connections to servers that are still open"},
		{Name: "econ", Unit: situation.Requests, Means: "requests for which HAProxy could not connect to a server"},
		{Name: "wretr", Unit: situation.Attempts, Means: "HAProxy's retries to connect to a server"},
		{Name: "eresp", Unit: situation.Requests, Means: "responses that HAProxy counts as errors"},
		{Name: "cli_abrt", Unit: situation.Requests, Means: "transfers that were aborted by the client, according to HAProxy"},
		{Name: "srv_abrt", Unit: situation.Requests, Means: "transfers that were aborted by the server, according to HAProxy"},
		{Name: "log", Unit: "termination states", Means: "how the sessions ended according to HAProxy's log (configuration manual, Session state at disconnection)"},
		{Name: "longest session", Unit: situation.InMS, Means: "how long the longest session took, according to HAProxy's log"},
	}
}
