//go:build linux

package lab_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"twlab/harness/lab"
	"twlab/harness/tcp"
)

func TestRulesCanBeAddedToARunningLab(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1, Sysctls: lab.On(lab.Client, "net.ipv4.tcp_syn_retries=1")})
	client, balancer := l.Client(0), l.Balancer()
	listener, err := balancer.Listen(t.Context(), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []tcp.Outcome{tcp.Connected, tcp.Refused} {
		outs, err := client.Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr, Ending: tcp.CloseNow}})
		if err != nil {
			t.Fatal(err)
		}
		if outs[0].Outcome != want {
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

// What was added is in the topology, and what could not be added whole leaves the
// rules as they were, on every node.
func TestAddRulesAddsAllOrNone(t *testing.T) {
	own := lab.Rule{Role: lab.Client, Table: "filter", Chain: "INPUT", Spec: "-p tcp --dport 1 -j DROP"}
	l := build(t, lab.Topology{Clients: 2, Rules: []lab.Rule{own}})
	rules := func() (all []string) {
		for _, n := range append(l.Nodes(lab.Client), l.Nodes(lab.Balancer)...) {
			on, err := n.Rules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range on {
				if strings.HasPrefix(r.Rule, "-P ") {
					continue // a table comes with the first rule in it, and stays
				}
				all = append(all, fmt.Sprintf("%s: -t %s %s", n.Identity().Name, r.Table, r.Rule))
			}
		}
		return all
	}
	added := lab.Rule{Role: lab.Client, Table: "filter", Chain: "INPUT", Spec: "-p tcp --dport 2 -j DROP"}
	if err := l.AddRules(added); err != nil {
		t.Fatal(err)
	}
	if got := l.Topology().Rules; !slices.Equal(got, []lab.Rule{own, added}) {
		t.Errorf("the topology has %+v", got)
	}
	before := rules()
	if len(before) != 4 {
		t.Errorf("rules: %q, want two on each of two clients", before)
	}
	impossible := lab.Rule{Node: "client1", Table: "filter", Chain: "INPUT", Spec: "-p tcp --dport 3 -j NOWHERE"}
	everywhere := lab.Rule{Role: lab.Balancer, Table: "raw", Chain: "PREROUTING", Spec: "-p tcp --dport 4 -j DROP"}
	// One of them is there already: that one stays, and so does the order.
	err := l.AddRules(everywhere, own, impossible)
	if err == nil || !strings.Contains(err.Error(), "client1: iptables -t filter -A INPUT -p tcp --dport 3 -j NOWHERE") {
		t.Errorf("%v, want the node and the rule", err)
	}
	if after := rules(); !slices.Equal(after, before) {
		t.Errorf("rules\n%q\nbefore they were\n%q", after, before)
	}
	if got := l.Topology().Rules; !slices.Equal(got, []lab.Rule{own, added}) {
		t.Errorf("the topology has %+v", got)
	}
}

func TestAddRulesRefusesWhatNoNodeWouldGet(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1})
	err := l.AddRules(lab.Rule{Role: lab.Gateway, Table: "filter", Chain: "FORWARD", Spec: "-j DROP"})
	if err == nil || !strings.Contains(err.Error(), "no gateway") {
		t.Errorf("AddRules for a gateway that is not there = %v, want an error that says so", err)
	}
}
