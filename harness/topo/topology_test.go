package topo

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// other is a kind of nodes, and what is wrong with it.
type other struct{ wrong error }

func (o other) Validate() error { return o.wrong }
func (o other) MostLinks() int  { return 24 }

// program is one that balances, and what is wrong with it.
type program struct{ wrong error }

func (p program) Name() string         { return "some" }
func (p program) Validate(Place) error { return p.wrong }
func (p program) Start(context.Context, func(func() error) error, Place) (Running, error) {
	return nil, errors.New("nothing starts here")
}

// Each wrong description has its own sentence, and each sentence names the thing.
func TestValidateNamesWhatIsWrong(t *testing.T) {
	masquerade, routed := GatewaySpec{Kind: Masquerade}, GatewaySpec{Kind: Routed}
	guests := func(roles ...Role) map[Role]NodeKind {
		kinds := map[Role]NodeKind{}
		for _, r := range roles {
			kinds[r] = other{}
		}
		return kinds
	}
	for _, c := range []struct {
		name     string
		topology Topology
		want     string
	}{
		{"no clients", Topology{}, "0 clients: want at least 1"},
		{"negative clients", Topology{Clients: -3}, "-3 clients: want at least 1"},
		{"more clients than addresses", Topology{Clients: 70000}, "70000 clients: more than the 65533 addresses of 10.10.0.0/16"},
		{"more servers than addresses", Topology{Clients: 1, Servers: 70000}, "70000 servers: want 0 to 65533"},
		{"more names than clients", Topology{Clients: 1, Names: []string{"a", "b"}}, "2 names for 1 clients"},
		{"name too long for a link", Topology{Clients: 1, Names: []string{"a-name-of-16-byt"}}, `node "a-name-of-16-byt": want 1 to 15`},
		{"two clients with one name", Topology{Clients: 2, Names: []string{"phone", "phone"}}, `two nodes named "phone"`},
		{"client named like the balancer", Topology{Clients: 1, Names: []string{"balancer"}}, `two nodes named "balancer"`},
		{"client named like a later one", Topology{Clients: 2, Names: []string{"client1"}}, `two nodes named "client1"`},
		{"ports reversed", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{2000, 1000}}}, `gateway: source NAT towards "balancer": port range 2000-1000 is reversed`},
		{"ports from zero", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{0, 1000}}}, `gateway: source NAT towards "balancer": port range 0-1000: ports begin at 1`},
		{"ports without masquerade", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed, Ports: PortRange{1000, 2000}}}, `gateway: ports and random mode need kind "masquerade"`},
		{"ports without gateway", Topology{Clients: 1, Gateway: GatewaySpec{Ports: PortRange{1000, 2000}}}, `gateway: ports and random mode need kind "masquerade"`},
		{"blocks without masquerade", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed, PerClient: 4}}, `gateway: ports and random mode need kind "masquerade"`},
		{"negative blocks", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{1000, 2000}, PerClient: -1}}, "gateway: -1 ports for each client: want at least 1, or 0 to share them all"},
		{"more blocks than ports", Topology{Clients: 3, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{1000, 1010}, PerClient: 4}}, "gateway: 4 ports for each of 3 clients: the range 1000-1010 has only 11"},
		{"blocks of no range", Topology{Clients: 3, Gateway: GatewaySpec{Kind: Masquerade, PerClient: 4}}, "gateway: 4 ports for each client: out of which range?"},
		{"unknown gateway", Topology{Clients: 1, Gateway: GatewaySpec{Kind: "magic"}}, `gateway: unknown kind "magic"`},
		{"unknown random mode", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Random: "--chaos"}}, `gateway: source NAT towards "balancer": unknown random mode "--chaos"`},
		{"sysctl without value", Topology{Clients: 1, Sysctls: On(Client, "net.ipv4.tcp_tw_reuse")}, `sysctl "net.ipv4.tcp_tw_reuse" with value ""`},
		{"sysctl with slashes", Topology{Clients: 1, Sysctls: On(Client, "net/ipv4/tcp_tw_reuse=1")}, `want net.some.name=value`},
		{"sysctl for nobody", Topology{Clients: 1, Sysctls: Settings{{Name: "net.a", Value: "1"}}}, "sysctl net.a: want either a role or a node"},
		{"sysctl for a missing role", Topology{Clients: 1, Sysctls: On(Gateway, "net.a=1")}, "sysctl net.a: no gateway in this topology"},
		{"sysctl for a missing node", Topology{Clients: 1, Sysctls: OnNode("client1", "net.a=1")}, `sysctl net.a: no node "client1" in this topology`},
		{"rule without table", Topology{Clients: 1, Gateway: masquerade, Rules: []Rule{{Role: Gateway, Chain: "INPUT", Spec: "-j DROP"}}}, `rule "-j DROP" of chain "INPUT" in table ""`},
		{"machines booted before others", Topology{Clients: 1, BootGap: -time.Second}, "boot gap -1s: want 0 or more"},
		{"kernel of nobody", Topology{Clients: 1, Kinds: guests(Server)}, "kernels: no server in this topology"},
		{"kind that cannot be", Topology{Clients: 1, Kinds: map[Role]NodeKind{Client: other{errors.New("no kernel image")}}}, "client0: no kernel image"},
		{"neighbours with kernels", Topology{Clients: 1, Kinds: guests(Client, Balancer)}, "client0 and balancer are both guests"},
		{"gateway with rules and a kernel", Topology{Clients: 1, Gateway: masquerade, Kinds: guests(Gateway)}, "gateway: no iptables rules there: "},
		{"client with rules and a kernel", Topology{Clients: 1, Gateway: routed, Kinds: guests(Client), Rules: []Rule{{Node: "client0", Table: "filter", Chain: "INPUT", Spec: "-j DROP"}}}, "client0: no iptables rules there: "},
		{"client with its loopback recorded and a kernel", Topology{Clients: 1, Loopback: Client, Kinds: guests(Client)}, "client: its loopback will be recorded"},
		{"too many links", Topology{Clients: 25, Kinds: guests(Balancer)}, "balancer: 25 links: a guest has at most 24"},
		{"unknown balancer", Topology{Clients: 1, Balancer: BalancerSpec{Kind: "magic"}}, `balancer: unknown kind "magic"`},
		{"DNAT without servers", Topology{Clients: 1, Balancer: BalancerSpec{Kind: DNAT}}, "balancer: destination NAT at 10.20.0.2:80: no destination: it needs servers"},
		{"program without servers", Topology{Clients: 1, Balancer: BalancerSpec{Program: program{}}}, "balancer: some needs servers"},
		{"program that cannot be", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Program: program{errors.New("haproxy: unknown mode")}}}, "balancer: haproxy: unknown mode"},
		{"program and rules", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: DNAT, Program: program{}}}, `balancer: kind "dnat" and the program some: want one of them`},
		{"unknown statistic mode", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: DNAT, Statistic: "fair"}}, `balancer: destination NAT at 10.20.0.2:80: unknown statistic mode "fair"`},
		{"statistic mode without DNAT", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Program: program{}, Statistic: InTurn}}, `balancer: statistic mode needs kind "dnat"`},
		{"program on a guest", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Program: program{}}, Kinds: guests(Balancer)}, "balancer: a guest runs no programs, so some cannot"},
		{"DNAT on a guest", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: DNAT}, Kinds: guests(Balancer)}, "balancer: no iptables rules there"},
		{"rule for a missing node", Topology{Clients: 1, Rules: []Rule{{Node: "nobody", Table: "filter", Chain: "INPUT", Spec: "-j DROP"}}}, `rule "-j DROP": no node "nobody"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.topology.Validate()
			if err == nil {
				t.Fatalf("Validate() = nil, want an error with %q", c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %q\nwant it to contain %q", err, c.want)
			}
		})
	}
}

func TestValidateSaysEverythingAtOnce(t *testing.T) {
	err := Topology{Clients: 0, Gateway: GatewaySpec{Kind: "magic"}, Sysctls: OnNode("nobody", "net.a=1")}.Validate()
	for _, want := range []string{"0 clients", "magic", "net.a"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want it to contain %q", err, want)
		}
	}
}

func TestValidateAcceptsWhatCanBeBuilt(t *testing.T) {
	for name, topology := range map[string]Topology{
		"direct": {Clients: 1},
		"other kernels": {
			Clients: 50, Servers: 2, Gateway: GatewaySpec{Kind: Masquerade},
			Kinds: map[Role]NodeKind{Client: other{}, Balancer: other{}},
		},
		"full": {Clients: capacity(clientNet), Servers: capacity(serverNet), Gateway: GatewaySpec{Kind: Routed}},
		"one port": {
			Clients: 2, Names: []string{"old", "young"},
			Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{1, 1}, Random: FullyRandom},
			Sysctls: On(Client, "net.ipv4.tcp_timestamps=2").OnNode("old", "net.ipv4.tcp_rfc1337=1"),
			Rules:   []Rule{{Node: "gateway", Table: "raw", Chain: "PREROUTING", Spec: "-j ACCEPT"}},
		},
	} {
		if err := topology.Validate(); err != nil {
			t.Errorf("%s: Validate() = %v", name, err)
		}
	}
}

func TestMembersHaveAddressesOfTheirOwn(t *testing.T) {
	members := Topology{Clients: capacity(clientNet), Servers: 2, Gateway: GatewaySpec{Kind: Masquerade}}.members()
	seen := map[netip.Addr]string{inner(clientNet): "inner end", inner(serverNet): "inner end"}
	for _, m := range members {
		if other, taken := seen[m.Addr]; taken {
			t.Fatalf("%s and %s both have %v", other, m.Name, m.Addr)
		}
		seen[m.Addr] = m.Name
	}
	last := members[len(members)-3]
	if want := netip.MustParseAddr("10.10.255.254"); last.Addr != want || !clientNet.Contains(last.Addr) {
		t.Errorf("last client %s has %v, want %v", last.Name, last.Addr, want)
	}
}

func TestMembersComeAfterTheirInnerNode(t *testing.T) {
	for _, kind := range []GatewayKind{NoGateway, Routed, Masquerade} {
		seen := map[string]bool{"": true}
		for _, m := range (Topology{Clients: 3, Servers: 2, Gateway: GatewaySpec{Kind: kind}}).members() {
			if !seen[m.Inner] {
				t.Errorf("gateway %q: %s comes before %s", kind, m.Name, m.Inner)
			}
			seen[m.Name] = true
		}
	}
}

func TestMasqueradeRuleSaysWhatTheGatewayAsksFor(t *testing.T) {
	for spec, want := range map[GatewaySpec]string{
		{Kind: Masquerade}: "-o balancer -p tcp -j MASQUERADE",
		{Kind: Masquerade, Ports: PortRange{1024, 2047}, Random: Random}: "-o balancer -p tcp -j MASQUERADE --to-ports 1024-2047 --random",
		{Kind: Masquerade, Random: FullyRandom}:                          "-o balancer -p tcp -j MASQUERADE --random-fully",
	} {
		rules := rulesOf(t, Topology{Clients: 1, Gateway: spec}, "gateway")
		if len(rules) != 1 || rules[0].Spec != want {
			t.Errorf("%+v: %+v, want one rule %q", spec, rules, want)
		}
	}
	if rules := rulesOf(t, Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed}}, "gateway"); len(rules) != 0 {
		t.Errorf("a routed gateway has rules: %+v", rules)
	}
}

func rulesOf(t *testing.T, topology Topology, name string) []Rule {
	t.Helper()
	plan, err := topology.Network().Plan()
	if err != nil {
		t.Fatal(err)
	}
	n, _ := plan.Node(name)
	return plan.RulesOf(n)
}

func TestEachClientHasPortsOfItsOwn(t *testing.T) {
	topology := Topology{Clients: 2, Gateway: GatewaySpec{
		Kind: Masquerade, Ports: PortRange{1024, 65535}, PerClient: 1008, Random: FullyRandom,
	}}
	if err := topology.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"-s 10.10.0.2 -o balancer -p tcp -j MASQUERADE --to-ports 1024-2031 --random-fully",
		"-s 10.10.0.3 -o balancer -p tcp -j MASQUERADE --to-ports 2032-3039 --random-fully",
	}
	rules := rulesOf(t, topology, "gateway")
	if len(rules) != len(want) {
		t.Fatalf("%d rules, want %d", len(rules), len(want))
	}
	for i, r := range rules {
		if r.Spec != want[i] {
			t.Errorf("rule %d is %q, want %q", i, r.Spec, want[i])
		}
	}
}
