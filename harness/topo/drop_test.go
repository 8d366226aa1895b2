package topo

import (
	"strings"
	"testing"
	"time"
)

// All mistakes of a drop are told at once, without a lab.
func TestDropSaysWhatIsWrong(t *testing.T) {
	n := chain(func(n *Network) { n.Nodes[2].Kind = other{} })
	p, err := n.Plan()
	if err != nil {
		t.Fatal(err)
	}
	router, _ := p.Node("router")
	server, _ := p.Node("server")
	good := Drop{Node: "router", Table: "mangle", Chain: "FORWARD", Match: "-p tcp", From: "client", To: "server", First: MostFirst}
	if err := good.Validate(router, IPv4); err != nil {
		t.Error(err)
	}
	if rule, want := good.Rule(router, "drop1"), "-i client -o server -p tcp -j drop1"; rule.Spec != want || rule.Chain != "FORWARD" {
		t.Errorf("%+v, want %q", rule, want)
	}
	for want, change := range map[string]func(*Drop){
		`table "nat": want raw, mangle or filter`:              func(d *Drop) { d.Table = "nat" },
		`chain "INPUT": table raw has PREROUTING, OUTPUT`:      func(d *Drop) { d.Table, d.Chain = "raw", "INPUT" },
		`match "-p tcp -j ACCEPT": -j: a match without`:        func(d *Drop) { d.Match = "-p tcp -j ACCEPT" },
		`a double quote is not closed`:                         func(d *Drop) { d.Match = `--comment "a b` },
		`no link to "phone"`:                                   func(d *Drop) { d.To = "phone" },
		"the first 301 packets: want 1 to 300, or 0 for all":   func(d *Drop) { d.First = MostFirst + 1 },
		"the first -1 packets: want 1 to 300":                  func(d *Drop) { d.First = -1 },
		"for -1s: want more than 0":                            func(d *Drop) { d.For = -time.Second },
		"the first 300 packets for 1h0m0s: want at most 30m0s": func(d *Drop) { d.For = time.Hour },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(router, IPv4); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	err = Drop{Node: "server", Table: "nat", First: -1}.Validate(server, IPv4)
	for _, want := range []string{"drop of every packet at server: ", "no iptables rules on a guest", `table "nat"`, "the first -1 packets"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want all at once, %q too", err, want)
		}
	}
}
