package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/haproxy"
	"twlab/harness/kernel"
)

// Each wrong description has its own sentence, and each sentence names the thing.
func TestValidateNamesWhatIsWrong(t *testing.T) {
	masquerade, routed := GatewaySpec{Kind: Masquerade}, GatewaySpec{Kind: Routed}
	old := kernel.Image{Path: "/boot/old"}
	host := guest.Host{Agent: "agent"}
	apart := func(roles ...Role) map[Role]kernel.Image {
		kernels := map[Role]kernel.Image{}
		for _, r := range roles {
			kernels[r] = old
		}
		return kernels
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
		{"name too long for a link", Topology{Clients: 1, Names: []string{"a-name-of-16-byt"}}, `client name "a-name-of-16-byt": want 1 to 15`},
		{"two clients with one name", Topology{Clients: 2, Names: []string{"phone", "phone"}}, `two nodes named "phone"`},
		{"client named like the balancer", Topology{Clients: 1, Names: []string{"balancer"}}, `two nodes named "balancer"`},
		{"client named like a later one", Topology{Clients: 2, Names: []string{"client1"}}, `two nodes named "client1"`},
		{"ports reversed", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{2000, 1000}}}, "gateway: port range 2000-1000 is reversed"},
		{"ports from zero", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{0, 1000}}}, "gateway: port range 0-1000: ports begin at 1"},
		{"ports without masquerade", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed, Ports: PortRange{1000, 2000}}}, `gateway: ports and random mode need kind "masquerade"`},
		{"ports without gateway", Topology{Clients: 1, Gateway: GatewaySpec{Ports: PortRange{1000, 2000}}}, `gateway: ports and random mode need kind "masquerade"`},
		{"blocks without masquerade", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed, PerClient: 4}}, `gateway: ports and random mode need kind "masquerade"`},
		{"negative blocks", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{1000, 2000}, PerClient: -1}}, "gateway: -1 ports for each client: want at least 1, or 0 to share them all"},
		{"more blocks than ports", Topology{Clients: 3, Gateway: GatewaySpec{Kind: Masquerade, Ports: PortRange{1000, 1010}, PerClient: 4}}, "gateway: 4 ports for each of 3 clients: the range 1000-1010 has only 11"},
		{"blocks of no range", Topology{Clients: 3, Gateway: GatewaySpec{Kind: Masquerade, PerClient: 4}}, "gateway: 4 ports for each client: out of which range?"},
		{"unknown gateway", Topology{Clients: 1, Gateway: GatewaySpec{Kind: "magic"}}, `gateway: unknown kind "magic"`},
		{"unknown random mode", Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade, Random: "--chaos"}}, `gateway: unknown random mode "--chaos"`},
		{"sysctl without value", Topology{Clients: 1, Sysctls: On(Client, "net.ipv4.tcp_tw_reuse")}, `sysctl "net.ipv4.tcp_tw_reuse" with value ""`},
		{"sysctl with slashes", Topology{Clients: 1, Sysctls: On(Client, "net/ipv4/tcp_tw_reuse=1")}, `want net.some.name=value`},
		{"sysctl for nobody", Topology{Clients: 1, Sysctls: Settings{{Name: "net.a", Value: "1"}}}, "sysctl net.a: want either a role or a node"},
		{"sysctl for a missing role", Topology{Clients: 1, Sysctls: On(Gateway, "net.a=1")}, "sysctl net.a: no gateway in this topology"},
		{"sysctl for a missing node", Topology{Clients: 1, Sysctls: OnNode("client1", "net.a=1")}, `sysctl net.a: no node "client1" in this topology`},
		{"rule without table", Topology{Clients: 1, Gateway: masquerade, Rules: []Rule{{Role: Gateway, Chain: "INPUT", Spec: "-j DROP"}}}, `rule "-j DROP" of chain "INPUT" in table ""`},
		{"machines booted before others", Topology{Clients: 1, BootGap: -time.Second}, "boot gap -1s: want 0 or more"},
		{"kernel without agent", Topology{Clients: 1, Kernels: apart(Balancer)}, "kernels: no guest agent: build hack/cmd/agent"},
		{"kernel of nobody", Topology{Clients: 1, Kernels: apart(Server), Machines: host}, "kernels: no server in this topology"},
		{"kernel without image", Topology{Clients: 1, Kernels: map[Role]kernel.Image{Client: {Modules: "/lib"}}, Machines: host}, "kernels: client: no kernel image"},
		{"neighbours with kernels", Topology{Clients: 1, Kernels: apart(Client, Balancer), Machines: host}, "client0 and balancer both have a kernel of their own"},
		{"gateway with rules and a kernel", Topology{Clients: 1, Gateway: masquerade, Kernels: apart(Gateway), Machines: host}, "kernels: gateway: no iptables rules there: "},
		{"client with rules and a kernel", Topology{Clients: 1, Gateway: routed, Kernels: apart(Client), Machines: host, Rules: []Rule{{Node: "client0", Table: "filter", Chain: "INPUT", Spec: "-j DROP"}}}, "kernels: client0: no iptables rules there: "},
		{"client with its loopback recorded and a kernel", Topology{Clients: 1, Loopback: Client, Kernels: apart(Client), Machines: host}, "kernels: client: its loopback is to be recorded"},
		{"too many links", Topology{Clients: 25, Kernels: apart(Balancer), Machines: host}, "balancer has 25 links: a kernel of its own has at most 24"},
		{"unknown balancer", Topology{Clients: 1, Balancer: BalancerSpec{Kind: "magic"}}, `balancer: unknown kind "magic"`},
		{"DNAT without servers", Topology{Clients: 1, Balancer: BalancerSpec{Kind: DNAT}}, `balancer: kind "dnat" needs servers`},
		{"HAProxy without servers", Topology{Clients: 1, Balancer: BalancerSpec{Kind: HAProxy}}, `balancer: kind "haproxy" needs servers`},
		{"HAProxy that is told where it is", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: HAProxy, HAProxy: haproxy.Config{Servers: []netip.AddrPort{{}}}}}, "its servers are said by"},
		{"HAProxy that cannot be", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: HAProxy, HAProxy: haproxy.Config{Mode: "udp"}}}, `balancer: haproxy: unknown mode "udp"`},
		{"configuration of HAProxy without HAProxy", Topology{Clients: 1, Balancer: BalancerSpec{HAProxy: haproxy.Config{Retries: 1}}}, `a configuration of HAProxy needs kind "haproxy"`},
		{"lines for nginx without nginx", Topology{Clients: 1, Balancer: BalancerSpec{NginxLines: []string{"tcp_nodelay off;"}}}, `lines for nginx need kind "nginx"`},
		{"nginx on a kernel of its own", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: Nginx}, Kernels: apart(Balancer), Machines: host}, "kernels: balancer: no nginx there"},
		{"unknown statistic mode", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: DNAT, Statistic: "fair"}}, `balancer: unknown statistic mode "fair"`},
		{"statistic mode without DNAT", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: HAProxy, Statistic: InTurn}}, `balancer: statistic mode needs kind "dnat"`},
		{"HAProxy on a kernel of its own", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: HAProxy}, Kernels: apart(Balancer), Machines: host}, "kernels: balancer: no haproxy there"},
		{"DNAT on a kernel of its own", Topology{Clients: 1, Servers: 1, Balancer: BalancerSpec{Kind: DNAT}, Kernels: apart(Balancer), Machines: host}, "kernels: balancer: no iptables rules there"},
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
	err := Topology{Clients: 0, Gateway: GatewaySpec{Kind: "magic"}}.Validate()
	for _, want := range []string{"0 clients", "magic"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want it to contain %q", err, want)
		}
	}
}

func TestValidateAcceptsWhatCanBeBuilt(t *testing.T) {
	old := kernel.Image{Path: "/boot/old"}
	for name, topology := range map[string]Topology{
		"direct": {Clients: 1},
		"other kernels": {
			Clients: 50, Servers: 2, Gateway: GatewaySpec{Kind: Masquerade}, Machines: guest.Host{Agent: "agent"},
			Kernels: map[Role]kernel.Image{Client: old, Balancer: old},
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
			if !seen[m.inner] {
				t.Errorf("gateway %q: %s comes before %s", kind, m.Name, m.inner)
			}
			seen[m.Name] = true
		}
	}
}

// A value has another meaning on a kernel that does not know it.
func TestBaselineKnowsTheKernel(t *testing.T) {
	for release, want := range map[kernel.Release]string{{Major: 4, Minor: 2}: "0", {Major: 4, Minor: 19}: "2", {Major: 6, Minor: 1}: "2"} {
		for _, s := range baselineFor(release) {
			if s.Name == "net.ipv4.tcp_tw_reuse" && s.Value != want {
				t.Errorf("on %v: %s=%s, want %s", release, s.Name, s.Value, want)
			}
		}
	}
}

func TestMasqueradeRuleSaysWhatTheGatewayAsksFor(t *testing.T) {
	for spec, want := range map[GatewaySpec]string{
		{Kind: Masquerade}: "-o balancer -p tcp -j MASQUERADE",
		{Kind: Masquerade, Ports: PortRange{1024, 2047}, Random: Random}: "-o balancer -p tcp -j MASQUERADE --to-ports 1024-2047 --random",
		{Kind: Masquerade, Random: FullyRandom}:                          "-o balancer -p tcp -j MASQUERADE --random-fully",
	} {
		rules := Topology{Clients: 1, Gateway: spec}.rules()
		if len(rules) != 1 || rules[0].Spec != want {
			t.Errorf("%+v: %+v, want one rule %q", spec, rules, want)
		}
	}
	if rules := (Topology{Clients: 1, Gateway: GatewaySpec{Kind: Routed}}).rules(); len(rules) != 0 {
		t.Errorf("a routed gateway has rules: %+v", rules)
	}
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
	rules := topology.rules()
	if len(rules) != len(want) {
		t.Fatalf("%d rules, want %d", len(rules), len(want))
	}
	for i, r := range rules {
		if r.Spec != want[i] {
			t.Errorf("rule %d is %q, want %q", i, r.Spec, want[i])
		}
	}
}
