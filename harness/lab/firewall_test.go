package lab_test

import (
	"strings"
	"testing"

	"twlab/harness/lab"
	"twlab/harness/tcp"
)

func TestRulesCanBeAddedToARunningLab(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1")})
	client, balancer := l.Nodes(lab.Client)[0], l.Nodes(lab.Balancer)[0]
	door, err := balancer.Listen(t.Context(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []tcp.Verdict{tcp.Connected, tcp.Refused} {
		outs, err := client.Attempt(t.Context(), []tcp.Attempt{{To: door.Addr, Ending: tcp.CloseNow}})
		if err != nil {
			t.Fatal(err)
		}
		if outs[0].Verdict != want {
			t.Errorf("got %v, want %v", outs[0], want)
		}
		err = l.AddRules(lab.Rule{
			Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-p tcp --syn -j REJECT --reject-with tcp-reset",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAddRulesRefusesWhatNoNodeWouldGet(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1})
	err := l.AddRules(lab.Rule{Role: lab.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-j DROP"})
	if err == nil || !strings.Contains(err.Error(), "no gateway") {
		t.Errorf("AddRules for a gateway that is not there = %v, want an error that says so", err)
	}
}
