package script

import "time"

// Expectation is what is expected of a step. What is left out is not asked.
type Expectation struct {
	When Condition
	// Within makes the expectation wait for what it asks of the network (counters, rules,
	// flows, sockets) for at most this long. Never is a time during which what it asks must
	// not come about.
	Within, Never time.Duration

	// Outcome is the outcome of connect(2), bind(2) or listen(2) (tcp.Outcome); Outcomes are
	// the numbers of several attempts, by outcome.
	Outcome  string
	Outcomes map[string]Bound
	// Errno is the error of the attempt, of the last write or of the last read:
	// "ECONNRESET"; "none" for none.
	Errno string
	// SYNs is the number of SYNs that were sent, Took the time to the outcome in
	// milliseconds.
	SYNs, Took *Bound
	// Late is the number of attempts of a load that connected after repeating their SYN.
	Late *Bound
	// Local is the address that the attempt came from.
	Local Endpoint
	// Timestamps is whether the handshake agreed on TCP timestamps (RFC 7323).
	Timestamps *bool
	// SameClock and OtherClock are an earlier step: the timestamps of both connections come from
	// one clock, or from two that have nothing in common.
	SameClock, OtherClock string
	// Answers are the answers to the SYNs, in order (observe.Answer): "ACK", "RST",
	// "SYN-ACK", "none".
	Answers []string
	// Disposition is what became of the last request (http.Disposition), Status its status
	// code. Dispositions are the numbers of several exchanges, by disposition.
	Disposition  string
	Dispositions map[string]Bound
	Status       *Bound
	// Connection is what the last response says of the connection: "close", or "none".
	Connection string
	// Sent and Received are numbers of bytes.
	Sent, Received *Bound
	// ClosedFirst is the node that ended the connection first.
	ClosedFirst string
	// Cause is why attempts did not connect at once or broke, or why a send or a receive got an
	// error or waited in vain: an ID of diagnose.Catalogue, or "none" where all is fine. Proof is how sure that must be:
	// "proved", or empty for any of proved and consistent.
	Cause, Proof string
	// Forgotten is the number of conntrack entries that were deleted.
	Forgotten *Bound
	// Dropped is the number of packets that a fault has dropped.
	Dropped *Bound
	// Holder is the socket that holds a port that is in use.
	Holder *SocketCount

	// Counters are the changes of counters since the step began, by node and name.
	Counters map[string]map[string]Bound
	// Rules are the packets that rules have matched since they were added, by node and the
	// ID of the step.
	Rules map[string]map[string]Bound
	// Flows and Sockets are what is in the tables.
	Flows   []FlowCount
	Sockets []SocketCount
}

// FlowCount is a number of conntrack entries.
type FlowCount struct {
	Node string
	Flow
	Count Bound
}

// SocketCount is a number of sockets.
type SocketCount struct {
	Node string
	// State is that of the socket: "TIME_WAIT".
	State string
	// Local and Remote are its ends, as far as they matter.
	Local, Remote Endpoint
	// Expires is the time until its timer fires, in milliseconds, if that matters.
	Expires *Bound
	Count   Bound
}

// Bound is what a number must be. The zero value is 0.
type Bound struct {
	// Low and High are the limits, both included; without High (Open) there is no upper one.
	Low, High int64
	Open      bool
	// SYNsOf is a step: the number is that of the SYNs that it has sent.
	SYNsOf string
}

// Exactly returns the bound of one number.
func Exactly(n int64) Bound { return Bound{Low: n, High: n} }

// AtLeast returns the bound of that number or more.
func AtLeast(n int64) Bound { return Bound{Low: n, Open: true} }

// AtMost returns the bound of that number or less.
func AtMost(n int64) Bound { return Bound{High: n} }

// Between returns the bound of the numbers from low to high.
func Between(low, high int64) Bound { return Bound{Low: low, High: high} }
