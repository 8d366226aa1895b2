package scriptfile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// scenarioOf reads the only scenario of a file.
func scenarioOf(t *testing.T, text string) script.Scenario {
	t.Helper()
	f, err := Read("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f.Scenarios[0]
}

func TestBothVersionsOfIP(t *testing.T) {
	text := strings.Replace(good, "topology:", "topology:\n  ip: both", 1)
	text = strings.Replace(text, "gateway: {", `gateway: {dnat: {"vip:80": ["server:80"]}, rules: ["filter INPUT -s {client.ipv6} -j DROP", "filter INPUT -p tcp -j ACCEPT"], `, 1)
	s := scenarioOf(t, strings.Replace(text, "vip: {owner: server}", "vip: {owner: gateway}", 1))
	if s.Network.IP != topo.DualStack || !s.Addresses["vip"].Is4() || !s.Addresses6["vip"].Is6() {
		t.Errorf("version %q, vip %v and %v", s.Network.IP, s.Addresses["vip"], s.Addresses6["vip"])
	}
	gateway := s.Network.Nodes[1]
	if len(gateway.Own) != 2 || !gateway.Addr.Is4() || !gateway.Addr6.Is6() {
		t.Errorf("gateway has %v, is %v and %v", gateway.Own, gateway.Addr, gateway.Addr6)
	}
	var versions []bool
	for _, d := range gateway.DestinationNAT {
		if d.At.Addr().Is6() != d.To[0].Addr().Is6() {
			t.Errorf("%v goes to another version, %v", d.At, d.To)
		}
		versions = append(versions, d.At.Addr().Is6())
	}
	if !slices.Equal(versions, []bool{false, true}) {
		t.Errorf("DNAT of IPv6: %v, want of both versions", versions)
	}
	if r := s.Network.Rules; r[0].IP != topo.IPv6 || r[1].IP != "" {
		t.Errorf("rules of %q and %q, want of IPv6 and of both", r[0].IP, r[1].IP)
	}
}

func TestNamesOfOneVersion(t *testing.T) {
	_, err := Read("x.yaml", []byte(strings.Replace(good, "to: vip:80", "to: vip.ipv6:80", 1)+"  - listen: {node: server, port: 81, at: vip}\n"))
	if err == nil || !strings.Contains(err.Error(), `only a network with "ip: both"`) {
		t.Errorf("%v", err)
	}
}

func TestRoutesAndLinks(t *testing.T) {
	s := scenarioOf(t, `twlab: 1
name: two ways
topology:
  nodes: {client: {routes: {server: b, vip: b}}, a: {}, b: {}, server: {}}
  links: [client -- a, {between: client -- b, mtu: 1400, loss: 2.5, delay: 10ms, from: b}, a -- server, b -- server]
  addresses: {vip: {owner: server}}
steps:
  - listen: {node: server, port: 80}
  - connect: {from: client, to: vip:80}
    expect: {outcome: Connected}
`)
	plan, err := s.Network.Plan()
	if err != nil {
		t.Fatal(err)
	}
	server, _ := plan.Node("server")
	want := append(server.Addrs(), s.Addresses["vip"])
	for _, r := range s.Network.Nodes[0].Routes {
		if slices.Contains(want, r.To.Addr()) && r.Via != "b" {
			t.Errorf("%v goes via %s, want b", r.To, r.Via)
		}
	}
	sends := topo.Impairment{Loss: 2.5, Delay: 10 * time.Millisecond}
	if l := s.Network.Links[1]; l.MTU != 1400 || l.OuterSends != (topo.Impairment{}) || l.InnerSends != sends {
		t.Errorf("link %+v, want that b sends %+v", l, sends)
	}
}

func TestTheShortForm(t *testing.T) {
	s := scenarioOf(t, `twlab: 1
name: short
topology: {clients: 2, gateway: masquerade, balancer: haproxy, servers: 1}
steps:
  - connect: {from: clients, to: vip:80}
    expect: {outcome: Connected}
`)
	plan, err := s.Network.Plan()
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := plan.Node("balancer"); s.Addresses["vip"] != at.Addr || len(s.Programs["balancer"].Servers) != 1 {
		t.Errorf("vip is %v, the balancer %v with %v", s.Addresses["vip"], at.Addr, s.Programs)
	}
}

func TestDefaultsOfTheKernel(t *testing.T) {
	for name, network := range map[string]string{
		"short": "clients: 1", "nodes": "nodes: {a: {}, b: {}}, links: [a -- b]",
	} {
		for _, asked := range []bool{false, true} {
			text := "twlab: 1\nname: x\ntopology: {" + network + "}\nsteps:\n  - sleep: 1s\n    expect: {sysctls: {NODE: {net.ipv4.tcp_rfc1337: there}}}\n"
			text = strings.ReplaceAll(text, "NODE", map[string]string{"short": "client0", "nodes": "a"}[name])
			if asked {
				text = strings.Replace(text, "topology: {", "topology: {kernel-defaults: true, ", 1)
			}
			f, err := Read("x.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Scenarios[0].Network.NoBaseline; got != asked {
				t.Errorf("%s: %t, want %t", name, got, asked)
			}
		}
	}
}
