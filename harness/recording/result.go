package recording

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Result is the result of a step, as far as its kind has one.
type Result struct {
	Attempts []Attempt `json:"attempts,omitempty"`
	// Sent and Received are numbers of bytes; Errno is the kernel's error that ended it
	// ("ECONNRESET"), empty for none.
	Sent     int64  `json:"sent,omitempty"`
	Received int64  `json:"received,omitempty"`
	Errno    string `json:"errno,omitempty"`
	// On is the connection that a send or a receive was on.
	On *On `json:"on,omitempty"`
	// Outcome is that of a listener, Holders are the sockets that have its port.
	Outcome string   `json:"outcome,omitempty"`
	Holders []Holder `json:"holders,omitempty"`
	// Forgotten is the number of conntrack entries that were deleted, Dropped the number of
	// packets that a fault has dropped.
	Forgotten int   `json:"forgotten,omitempty"`
	Dropped   int64 `json:"dropped,omitempty"`
	// Load is what became of a load.
	Load *Load `json:"load,omitempty"`
}

// On is a connection that an earlier step has made, as a later step uses it.
type On struct {
	// Node is the client; Local and Remote are the ends of the connection there.
	Node   string         `json:"node"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// AtServer says that the step used the other end.
	AtServer bool `json:"atServer,omitempty"`
	// Waited says that the time of the step was over before it had got what it wanted, and
	// nothing had ended the connection.
	Waited bool `json:"waited,omitempty"`
}

// Load is what became of the attempts of a load.
type Load struct {
	// Outcomes are the numbers of attempts, by outcome.
	Outcomes map[string]int `json:"outcomes"`
	// Late is the number of attempts that connected after repeating their SYN, SYNs that of
	// all SYNs that were sent.
	Late int `json:"late"`
	SYNs int `json:"syns"`
	// Offered is the rate of the schedule, 0 without one; Achieved is that at which attempts
	// began. Both are per second.
	Offered  float64 `json:"offered"`
	Achieved float64 `json:"achieved"`
	// AtOnce is the number of attempts that connected with their first SYN; Causes say why the
	// others did not. The sum of both is the number of attempts.
	AtOnce int         `json:"atOnce,omitempty"`
	Causes []LoadCause `json:"causes,omitempty"`
}

// LoadCause are the attempts of a load that have the same cause.
type LoadCause struct {
	// Cause is that of a diagnosis. Several are joined by "and" when SYNs of an attempt had
	// different causes, and by "or" where it is not known which of them it was; "unexplained"
	// is none.
	Cause    string `json:"cause"`
	Status   string `json:"status"` // "proved", "consistent", "undetermined", "unexplained"
	Attempts int    `json:"attempts"`
	// Example is one of them, Why its explanation and Ladder its packets, as lines.
	Example Attempt  `json:"example"`
	Why     []string `json:"why,omitempty"`
	Ladder  []string `json:"ladder,omitempty"`
}

// Short is the cause in a few words: "snat-exhausted (proved)", "unexplained".
func (c LoadCause) Short() string {
	if c.Status == c.Cause {
		return c.Cause
	}
	return fmt.Sprintf("%s (%s)", c.Cause, c.Status)
}

// Attempt is one connection of a step, and the requests on it.
type Attempt struct {
	Node string `json:"node"`
	// Outcome is the kernel's answer to connect(2), or to the bind(2) before it; empty for
	// requests on a connection that an earlier step has made.
	Outcome string `json:"outcome,omitempty"`
	Errno   string `json:"errno,omitempty"`
	// Took is the time from connect(2) to its outcome, Lasted from there to the end of the
	// connection.
	Took   time.Duration `json:"took"`
	Lasted time.Duration `json:"lasted,omitempty"`
	// Local is the address that it came from, empty if there was none; Remote is what it
	// connected to.
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// SYNs is how many were sent until the outcome.
	SYNs int `json:"syns,omitempty"`
	// Timestamps says that the handshake agreed on TCP timestamps (RFC 7323).
	Timestamps bool    `json:"timestamps,omitempty"`
	Replies    []Reply `json:"replies,omitempty"`
	// Answers are the answers to its SYNs, in order: "SYN-ACK", "ACK", "RST", or empty for
	// none.
	Answers []string `json:"answers,omitempty"`
	// ClosedFirst is the node that sent the first FIN or RST; empty if nobody has.
	ClosedFirst string `json:"closedFirst,omitempty"`
	// NoPackets is why neither is known: a tap has lost packets.
	NoPackets string `json:"noPackets,omitempty"`
}

// Reply is the answer to one HTTP request.
type Reply struct {
	// Disposition is what became of the request: "whole", "truncated", "broken".
	Disposition string `json:"disposition"`
	// Status is the status code, Length the value of Content-Length, -1 without it.
	Status int   `json:"status,omitempty"`
	Length int64 `json:"length"`
	// Bytes is how much of the body came, Written how much of the request's was taken.
	Bytes   int64 `json:"bytes,omitempty"`
	Written int64 `json:"written,omitempty"`
	// Close says that the response announced the end of the connection.
	Close bool `json:"close,omitempty"`
	// Errno and WriteErrno are the kernel's errors of reading and of writing.
	Errno      string `json:"errno,omitempty"`
	WriteErrno string `json:"writeErrno,omitempty"`
	// Problem says what came instead of an HTTP response.
	Problem string        `json:"problem,omitempty"`
	Took    time.Duration `json:"took"`
}

// Holder is a socket that has a port which another socket did not get.
type Holder struct {
	Use    string         `json:"use,omitempty"` // "listener", "outgoing connection"
	State  string         `json:"state"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	// Open says that a program has it open, so that its options are known.
	Open      bool `json:"open,omitempty"`
	ReuseAddr bool `json:"reuseAddr,omitempty"`
	ReusePort bool `json:"reusePort,omitempty"`
}

// Outcomes is the outcome of a listener, that of all attempts, or each with its number: "4
// Connected, 2 TimedOut"; "none" if there is none.
func (r Result) Outcomes() string {
	if r.Outcome != "" {
		return r.Outcome
	}
	count := map[string]int{}
	if r.Load != nil {
		count = r.Load.Outcomes
	}
	for _, a := range r.Attempts {
		count[a.Outcome]++
	}
	names := slices.Sorted(maps.Keys(count))
	if len(names) == 1 && names[0] != "" {
		return names[0]
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", count[name], name)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}
