//go:build linux

package play_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/internal/labtest"
	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/topo"
)

var guestAgent = labtest.NewAgent()

// A guest is asked over a line, so that an interrupt must not end the last look at it. A guest that
// is to track every packet does so without a rule, which it cannot have.
func TestInterruptedWithAGuestThatTracks(t *testing.T) {
	k := labtest.Kernel(t)
	agent, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	s := direct(
		script.Step{Do: script.Listen{Node: "web", Port: 80, Serve: script.Hold}},
		script.Step{Do: script.Connect{From: at("c1", 0), To: at("web", 80), Then: script.ThenKeep}, ID: "user", Expect: []script.Expectation{{Outcome: "Connected"}}},
		script.Step{Do: script.Sleep{For: time.Hour}},
	)
	for i := range s.Network.Nodes {
		if s.Network.Nodes[i].Name == "web" {
			s.Network.Nodes[i].Tracking = topo.Always
		}
	}
	ctx, stop := context.WithCancelCause(t.Context())
	halt := errors.New("somebody has had enough")
	run := play.Runner{
		Kinds: map[string]topo.NodeKind{"web": guest.Kind{Host: guest.Host{Agent: agent}, Kernel: k}},
		Progress: func(p play.Progress) {
			if p.Step == len(s.Steps) {
				stop(halt)
			}
		},
	}
	r, err := run.Run(ctx, s)
	if !errors.Is(err, halt) || r.Verdict() != recording.Interrupted || r.Failed != "" {
		t.Fatalf("%v: %v, failed: %q: %s", err, r.Verdict(), r.Failed, r.Problem())
	}
	if len(r.Steps) != 3 || r.Steps[1].Verdict() != recording.AsExpected {
		t.Errorf("steps %+v, want the connection as expected", r.Steps)
	}
	if len(r.After) != 2 || len(r.After["web"].Counters) == 0 || !r.Nodes["web"].Guest || r.Nodes["c1"].Guest {
		t.Errorf("%d states, nodes %+v", len(r.After), r.Nodes)
	}
	if flows := r.After["web"].Flows; len(flows) != 1 || flows[0].State != "ESTABLISHED" {
		t.Errorf("the guest's entries are %+v, want one, ESTABLISHED", flows)
	}
}
