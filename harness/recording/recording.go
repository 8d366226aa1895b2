// Package recording is what a run of a scenario has shown, as versioned plain data that any
// system can read again.
package recording

import (
	"net/netip"
	"time"
)

// FormatVersion is the version of the JSON of a Recording. It changes whenever a reader of the
// version before would refuse or misread it.
const FormatVersion = 1

// Recording is everything that was seen in one run of a scenario. Times are durations in
// nanoseconds; they are those of the clock of the kernel on which the harness ran.
type Recording struct {
	Version int `json:"twlabRecording"`
	// By is the program that ran the scenario, as it describes itself.
	By       string `json:"by"`
	Scenario string `json:"scenario"`
	// Twin says that the scenario has a value turned, so that something must not be as
	// expected.
	Twin bool `json:"twin,omitempty"`
	// File is where the scenario was read from.
	File File `json:"file"`
	// Nodes are the machines of the network, by name.
	Nodes map[string]Node `json:"nodes,omitempty"`
	// Began is when the first step began, in UTC, by the clock that stamps the packets. Took
	// is how long all steps took.
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
	// Planned is how many steps the scenario has; Steps are those that were begun.
	Planned int    `json:"planned"`
	Steps   []Step `json:"steps,omitempty"`
	// Before and After are the states of all nodes at both ends.
	Before map[string]State `json:"before,omitempty"`
	After  map[string]State `json:"after,omitempty"`
	// Packets are those of all taps, ordered by time. They are Missing if a tap has lost some.
	Packets []Packet `json:"packets,omitempty"`
	// Events are the drops and resets that the running kernel has told of, ordered by time.
	Events []Event `json:"events,omitempty"`
	// Missing says why there is no evidence of a kind, by kind. What is missing is unknown, and
	// not absent.
	Missing  map[Evidence]string `json:"missing,omitempty"`
	Programs map[string]Program  `json:"programs,omitempty"`
	// Unbuilt is why there was no network, or no recording of it, for the steps; empty if
	// there was.
	Unbuilt string `json:"unbuilt,omitempty"`
	// Failed is why the recording is not whole although the steps were taken; empty if it is.
	Failed string `json:"failed,omitempty"`
	// Interrupted is what ended the run before its steps did; empty if nothing has.
	Interrupted string `json:"interrupted,omitempty"`
}

// File is the text of a scenario. Name is the last part of its path.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Node is a machine of the network.
type Node struct {
	Role      string       `json:"role,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Kernel is its release, as uname(2) has it; Guest says that it has a kernel of its own.
	Kernel string `json:"kernel"`
	Guest  bool   `json:"guest,omitempty"`
	// Settings are the sysctls that most often decide what becomes of a connection, at the
	// nodes that connect, listen or balance, as they were before the first step.
	Settings map[string]Setting `json:"settings,omitempty"`
}

// Setting is the value of a sysctl. Said says that the scenario sets it.
type Setting struct {
	Value string `json:"value"`
	Said  bool   `json:"said,omitempty"`
}

// State is what a node's tables held at one moment.
type State struct {
	Counters map[string]uint64 `json:"counters,omitempty"`
	Sockets  []Socket          `json:"sockets,omitempty"`
	Flows    []Flow            `json:"flows,omitempty"`
	Rules    []Rule            `json:"rules,omitempty"`
}

// Program is what a balancing program was told, and what it has said.
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
	// Node is where it listens, for a step that does; LeftOut are the keys that the file left
	// out of it and whose default may decide ("backlog").
	Node    string   `json:"node,omitempty"`
	LeftOut []string `json:"leftOut,omitempty"`
	// Background says that the next step began before this one ended.
	Background bool `json:"background,omitempty"`
	// After is the state of all nodes after the step, if it is one that moves packets.
	After map[string]State `json:"after,omitempty"`
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
	// Interrupted says that the run was ended during the step.
	Interrupted bool `json:"interrupted,omitempty"`
	// Findings are what was expected, and what was seen instead.
	Findings []Finding `json:"findings,omitempty"`
}

// Finding compares one expectation with what was seen.
type Finding struct {
	// What is what was asked: "outcome", "counter web TcpExt.ListenDrops".
	What   string `json:"what"`
	Wanted string `json:"wanted"`
	Seen   string `json:"seen"`
	Met    bool   `json:"met"`
}
