package report

import (
	"fmt"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// What shows that a default had a part in the answer.
var (
	// A queue was full (tcp_conn_request, tcp_v4_syn_recv_sock).
	queueCounters = []string{
		"TcpExt.ListenOverflows", "TcpExt.ListenDrops", "TcpExt.TCPReqQFullDrop", "TcpExt.TCPReqQFullDoCookies", "TcpExt.SyncookiesSent",
	}
	// A SYN or a segment met an older connection, which compared timestamps or numbers
	// (tcp_timewait_state_process, tcp_validate_incoming).
	olderCounters = []string{"TcpExt.TCPSYNChallenge", "TcpExt.TCPACKSkippedTimeWait", "TcpExt.PAWSEstab", "TcpExt.PAWSTimewait"}
	// A TIME_WAIT was given to a new connection (tcp_twsk_unique).
	reuseCounters = []string{"TcpExt.TWRecycled"}
)

// LeftOut says which defaults had a part in the answer because the scenario leaves them out:
// those of a queue if one was full, of timestamps if a SYN met an older connection, of ports
// if there was none, and how often a SYN was repeated if that was in vain. Empty if none had.
func LeftOut(r recording.Recording) string {
	f := defaults{of: r, by: map[string][]string{}}
	for _, s := range r.Steps {
		for _, a := range s.Result.Attempts {
			f.attempt(a)
		}
	}
	for node := range sorted(r.Nodes) {
		f.node(node)
	}
	for i, what := range f.order {
		f.order[i] = what + " (" + strings.Join(f.by[what], ", ") + ")"
	}
	return strings.Join(f.order, "; ")
}

// defaults collects defaults with the nodes that had them.
type defaults struct {
	of    recording.Recording
	order []string
	by    map[string][]string
}

// add notes the default of a sysctl at a node, unless the scenario sets it.
func (f *defaults) add(node string, sysctls ...string) {
	for _, name := range sysctls {
		if s, known := f.of.Nodes[node].Settings[name]; known && !s.Said {
			f.note(name+"="+s.Value, node)
		}
	}
}

func (f *defaults) note(what, node string) {
	if !slices.Contains(f.order, what) {
		f.order = append(f.order, what)
	}
	if !slices.Contains(f.by[what], node) {
		f.by[what] = append(f.by[what], node)
	}
}

// attempt looks what decided about an attempt.
func (f *defaults) attempt(a recording.Attempt) {
	switch a.Outcome {
	case "TimedOut":
		f.add(a.Node, recording.SYNRetries, recording.LinearTimeouts)
	case "NoPort":
		f.add(a.Node, recording.PortRange, recording.TimeWaitReuse)
	}
	if slices.Contains(a.Answers, "ACK") {
		f.add(a.Node, recording.Timestamps)
	}
}

// node looks what a node's counters say.
func (f *defaults) node(name string) {
	switch {
	case f.rose(name, queueCounters):
		for _, s := range f.of.Steps {
			if s.Node == name && slices.Contains(s.LeftOut, "backlog") {
				f.note(fmt.Sprintf("backlog of step %d, which is as large as somaxconn", s.Number), name)
			}
		}
		f.add(name, recording.MostWaiting, recording.SYNBacklog, recording.SYNCookies)
	case f.rose(name, olderCounters):
		f.add(name, recording.Timestamps)
	}
	if f.rose(name, reuseCounters) {
		f.add(name, recording.TimeWaitReuse)
	}
}

func (f *defaults) rose(node string, counters []string) bool {
	before, after := f.of.Before[node].Counters, f.of.After[node].Counters
	return slices.ContainsFunc(counters, func(c string) bool { return after[c] > before[c] })
}
