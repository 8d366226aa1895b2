//go:build linux

package play

import (
	"twlab/harness/observe"
	"twlab/harness/recorded"
	"twlab/harness/recording"
	"twlab/harness/topo"
)

// Packets is a recording of packets alone, with the addresses of the nodes that they went between:
// for whoever drives a lab without a scenario. title names the one step that it has.
func Packets(title string, plan topo.Plan, of []observe.Packet) recording.Recording {
	r := recording.Recording{
		Scenario: title, Planned: 1, Steps: []recording.Step{{Number: 1, Verb: "cell", What: title}},
		Nodes: map[string]recording.Node{}, Packets: recorded.Packets(of),
	}
	for _, n := range plan.Nodes {
		r.Nodes[n.Name] = recording.Node{Role: string(n.Role), Addresses: recorded.Addresses(n), Guest: n.IsGuest()}
	}
	if len(of) > 0 {
		r.Began = r.Packets[0].Time
	}
	return r
}
