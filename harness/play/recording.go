//go:build linux

package play

import (
	"time"

	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// FormatVersion is the version of a Recording's JSON. It changes when a reader of the
// version before would misread it.
const FormatVersion = 1

// Recording is everything that was seen in one run of a scenario. encoding/json preserves
// it.
type Recording struct {
	Version  int    `json:"twlab"`
	Scenario string `json:"scenario"`
	// Kernels are the releases of the nodes' kernels, by node.
	Kernels map[string]kernel.Release `json:"kernels"`
	// Began is when the first step began, by the clock of this machine, as the times of
	// packets are. Took is how long all steps took.
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
	Steps []Step        `json:"steps"`
	// Before and After are the states of all nodes at both ends.
	Before map[string]State `json:"before"`
	After  map[string]State `json:"after"`
	// Packets are those of all taps, ordered by time. They are missing, and NoPackets says
	// why, if a tap has lost some.
	Packets   []observe.Packet   `json:"packets"`
	NoPackets string             `json:"noPackets,omitempty"`
	Programs  map[string]Program `json:"programs,omitempty"`
}

// State is what a node's tables held at one moment.
type State struct {
	Counters kernel.Counters    `json:"counters"`
	Sockets  observe.Sockets    `json:"sockets,omitempty"`
	Flows    []observe.Flow     `json:"flows,omitempty"`
	Rules    []observe.RuleHits `json:"rules,omitempty"`
}

// Program is what a balancing program has said.
type Program struct {
	Configuration string `json:"configuration"`
	Log           string `json:"log"`
}

// Step is what happened in a step.
type Step struct {
	// Number is its place in the scenario, from 1 on; ID its name, if it has one.
	Number int    `json:"number"`
	ID     string `json:"id,omitempty"`
	Verb   string `json:"verb"`
	// What is the step in a few words: "connect c1:50000 > vip:80".
	What string `json:"what"`
	// Skipped is why the step does not apply; empty when it was taken.
	Skipped string `json:"skipped,omitempty"`
	// Began and Ended are times since the beginning of the first step.
	Began  time.Duration `json:"began"`
	Ended  time.Duration `json:"ended"`
	Result Result        `json:"result"`
	// Problem is why the step could not be taken, so that the situation did not come about;
	// Cannot says that this machine, or a kernel, lacks something for it.
	Problem string `json:"problem,omitempty"`
	Cannot  bool   `json:"cannot,omitempty"`
	// Findings are what was expected, and what was seen instead.
	Findings []Finding `json:"findings,omitempty"`
}

// Result is the result of a step, as far as its kind has one.
type Result struct {
	Attempts []Attempt `json:"attempts,omitempty"`
	// Sent and Received are numbers of bytes; Errno is the kernel's error that ended it
	// ("ECONNRESET"), empty for none.
	Sent     int64  `json:"sent,omitempty"`
	Received int64  `json:"received,omitempty"`
	Errno    string `json:"errno,omitempty"`
	// Outcome is that of a listener, Holders are the sockets that have its port.
	Outcome string       `json:"outcome,omitempty"`
	Holders []tcp.Holder `json:"holders,omitempty"`
	// Forgotten is the number of conntrack entries that were deleted, Dropped the number of
	// packets that a fault has dropped.
	Forgotten int   `json:"forgotten,omitempty"`
	Dropped   int64 `json:"dropped,omitempty"`
	// Load is what became of a load.
	Load *Load `json:"load,omitempty"`
}

// Attempt is one connection of a step, and the requests on it.
type Attempt struct {
	Node string `json:"node"`
	tcp.Result
	Replies []http.Reply `json:"replies,omitempty"`
	// Answers are the answers to its SYNs, in order.
	Answers []observe.Answer `json:"answers,omitempty"`
	// ClosedFirst is the node that sent the first FIN or RST; empty if nobody has.
	ClosedFirst string `json:"closedFirst,omitempty"`
	// NoPackets is why neither is known: a tap has lost packets.
	NoPackets string `json:"noPackets,omitempty"`
}

// Finding compares one expectation with what was seen.
type Finding struct {
	// What is what was asked: "outcome", "counters web TcpExt.ListenDrops".
	What   string `json:"what"`
	Wanted string `json:"wanted"`
	Seen   string `json:"seen"`
	Met    bool   `json:"met"`
}

// Verdict says how a run ended.
type Verdict int

// The verdicts, from the best to the worst.
const (
	// AsExpected: everything that was expected was seen.
	AsExpected Verdict = iota
	// NotAsExpected: something else was seen.
	NotAsExpected
	// NotBroughtAbout: a step failed, so that the run says nothing about the kernel.
	NotBroughtAbout
	// CannotHere: this machine or a kernel lacks something that a step needs.
	CannotHere
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case AsExpected:
		return "as expected"
	case NotAsExpected:
		return "NOT as expected"
	case NotBroughtAbout:
		return "did not come about"
	default:
		return "cannot run here"
	}
}

// Verdict returns the worst of all steps.
func (r Recording) Verdict() Verdict {
	worst := AsExpected
	for _, s := range r.Steps {
		worst = max(worst, s.verdict())
	}
	return worst
}

// Problem returns why the first step that could not be taken could not; empty if all were.
func (r Recording) Problem() string {
	for _, s := range r.Steps {
		if s.Problem != "" {
			return s.Verb + ": " + s.Problem
		}
	}
	return ""
}

func (s Step) verdict() Verdict {
	switch {
	case s.Cannot:
		return CannotHere
	case s.Problem != "":
		return NotBroughtAbout
	}
	for _, f := range s.Findings {
		if !f.Met {
			return NotAsExpected
		}
	}
	return AsExpected
}
