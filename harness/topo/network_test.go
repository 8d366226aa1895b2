package topo

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// chain is a client, a router and a server.
func chain(change func(*Network)) Network {
	n := Network{
		Nodes: []Node{
			{Identity: Identity{Name: "client", Role: Client}},
			{Identity: Identity{Name: "router"}, Forwards: true},
			{Identity: Identity{Name: "server", Role: Server}},
		},
		Links: []Link{{Outer: "client", Inner: "router"}, {Outer: "server", Inner: "router"}},
	}
	if change != nil {
		change(&n)
	}
	return n
}

func addrs(all ...string) (list []netip.Addr) {
	for _, a := range all {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

// Each mistake has a sentence of its own, and all of them are told at once.
func TestNetworkSaysWhatIsWrong(t *testing.T) {
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		change func(*Network)
		want   string
	}{
		"link to nobody":       {func(n *Network) { n.Links[0].Inner = "roouter" }, `link of "client" and "roouter": no node "roouter"`},
		"link to itself":       {func(n *Network) { n.Links[0].Inner = "client" }, `link of "client" with itself`},
		"two links of a pair":  {func(n *Network) { n.Links = append(n.Links, Link{Outer: "router", Inner: "client"}) }, `two links between "router" and "client"`},
		"node without a link":  {func(n *Network) { n.Nodes = append(n.Nodes, Node{Identity: Identity{Name: "lonely"}}) }, "lonely: no link to anybody"},
		"two of a name":        {func(n *Network) { n.Nodes[2].Name = "client" }, `two nodes named "client"`},
		"name of no interface": {func(n *Network) { n.Nodes[2].Name = "Server!" }, `node "Server!": want 1 to 15`},
		"name of an interface": {func(n *Network) {
			n.Nodes[0].Name, n.Links[0].Outer = "eth0", "eth0"
			n.Links[1] = Link{Outer: "router", Inner: "server"}
		}, `router: two interfaces named "eth0"`},
		"two owners":            {func(n *Network) { n.Nodes[0].Own, n.Nodes[2].Own = addrs("192.0.2.1"), addrs("192.0.2.1") }, "client and server both have the address 192.0.2.1"},
		"no address for a node": {func(n *Network) { n.Nodes[0].Own = addrs("224.0.0.1") }, "client: 224.0.0.1: want an address of a node"},
		"families of a link": {func(n *Network) {
			n.Links[0].OuterAddr, n.Links[0].InnerAddr = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
		}, "link of client and router: 10.0.0.1 and fd00::1: want both of one version of IP"},
		"one end without address": {func(n *Network) { n.Links[0].OuterAddr = netip.MustParseAddr("10.0.0.1") }, "link of client and router: an address at one end only"},
		"route via nobody":        {func(n *Network) { n.Nodes[0].Routes = []Route{{Via: "server"}} }, `client: route to everywhere via "server": no link to it`},
		"route of another family": {func(n *Network) { n.Nodes[0].Routes = []Route{{To: netip.MustParsePrefix("fd00::/8"), Via: "router"}} }, `client: route to fd00::/8: the network has no ipv6: set its IP to "ipv6" or "dual stack"`},
		"route that goes round": {func(n *Network) {
			n.Nodes[1].Routes = []Route{{To: netip.MustParsePrefix("192.0.2.0/24"), Via: "client"}}
		}, "packets to 192.0.2.0 go round: "},
		"NAT without forwarding": {func(n *Network) { n.Nodes[0].SourceNAT = []SourceNAT{{Towards: "router"}} }, "client: NAT on a node that does not forward"},
		"NAT towards nobody":     {func(n *Network) { n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "internet"}} }, `router: source NAT towards "internet": no link to it`},
		"ports turned round":     {func(n *Network) { n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server", Ports: PortRange{9, 8}}} }, "port range 9-8 is reversed"},
		"NAT from another family": {func(n *Network) {
			n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server", From: netip.MustParsePrefix("10.0.0.0/8"), To: netip.MustParseAddr("fd00::1")}}
		}, "from 10.0.0.0/8 to fd00::1: want both of one version of IP"},
		"destination NAT to none": {func(n *Network) { n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80")}} }, "router: destination NAT at 192.0.2.1:80: no destination"},
		"destination NAT of both": {func(n *Network) {
			n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80"), To: []netip.AddrPort{at("[fd00::1]:80")}}}
		}, "destination [fd00::1]:80: want the same version of IP at both"},
		"destination without port": {func(n *Network) {
			n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80"), To: []netip.AddrPort{at("10.0.0.1:0")}}}
		}, "destination 10.0.0.1:0: want an address and a port"},
		"way of replies":          {func(n *Network) { n.Nodes[2].Replies = "back" }, `server: unknown way of replies "back"`},
		"tracking":                {func(n *Network) { n.Nodes[2].Tracking = "some" }, `server: unknown tracking "some"`},
		"NAT without tracking":    {func(n *Network) { n.Nodes[1].Tracking = Never; n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server"}} }, `router: tracking "never" with NAT`},
		"two guests":              {func(n *Network) { n.Nodes[0].Kind, n.Nodes[1].Kind = other{}, other{} }, "client and router are both guests and share a link"},
		"rules on a guest":        {func(n *Network) { n.Nodes[2].Kind, n.Nodes[2].Tracking = other{}, Always }, "server: no iptables rules there"},
		"program without servers": {func(n *Network) { n.Nodes[1].Program = program{} }, "router: some needs servers"},
		"program on a guest":      {func(n *Network) { n.Nodes[2].Kind, n.Nodes[2].Program = other{}, program{} }, "server: a guest runs no programs"},
		"guest that cannot be":    {func(n *Network) { n.Nodes[2].Kind = other{errors.New("no kernel image")} }, "server: no kernel image"},
		"sysctl for nobody":       {func(n *Network) { n.Sysctls = OnNode("balancer", "net.a=1") }, `sysctl net.a: no node "balancer"`},
		"quote that is not closed": {func(n *Network) {
			n.Rules = []Rule{{Node: "router", Table: "filter", Chain: "INPUT", Spec: `-m comment --comment "two words`}}
		}, "a double quote is not closed"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := chain(c.change).Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v\nwant %q", err, c.want)
			}
		})
	}
	if err := chain(nil).Validate(); err != nil {
		t.Error(err)
	}
	err := chain(func(n *Network) { n.Nodes[2].Replies, n.Nodes[0].Own = "back", addrs("224.0.0.1") }).Validate()
	for _, want := range []string{"back", "224.0.0.1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want all at once, %q too", err, want)
		}
	}
}

// What is of a version that the network does not have, or in the field of another one, is
// told with its place.
func TestNetworkSaysWhatIsWrongWithVersions(t *testing.T) {
	at, addr := netip.MustParseAddrPort, netip.MustParseAddr
	const none4, none6 = `the network has no ipv4: set its IP to "ipv4" or "dual stack"`, `the network has no ipv6: set its IP to "ipv6" or "dual stack"`
	for name, c := range map[string]struct {
		ip     IPVersion
		change func(*Network)
		want   string
	}{
		"no version":             {"ipv5", nil, `unknown version of IP "ipv5": want "ipv4", "ipv6", "dual stack" or none`},
		"address of a node":      {IPv4, func(n *Network) { n.Nodes[0].Addr = addr("fd00::1") }, "client: fd00::1: " + none6},
		"IPv4 address of a node": {IPv6, func(n *Network) { n.Nodes[0].Addr = addr("10.0.0.1") }, "client: 10.0.0.1: " + none4},
		"second address":         {IPv6, func(n *Network) { n.Nodes[0].Addr6 = addr("fd00::1") }, "client: fd00::1: Addr6 is of a dual-stack network: want it in Addr"},
		"addresses exchanged":    {DualStack, func(n *Network) { n.Nodes[0].Addr = addr("fd00::1") }, "client: fd00::1: the IPv6 address in a dual-stack network is Addr6"},
		"no IPv6 address":        {DualStack, func(n *Network) { n.Nodes[0].Addr6 = addr("10.0.0.1") }, "client: 10.0.0.1: Addr6 is an IPv6 address"},
		"own address":            {IPv4, func(n *Network) { n.Nodes[0].Own = addrs("fd00::1") }, "client: fd00::1: " + none6},
		"multicast":              {IPv6, func(n *Network) { n.Nodes[0].Own = addrs("ff02::1") }, "client: ff02::1: want an address of a node"},
		"link-local":             {DualStack, func(n *Network) { n.Nodes[0].Own = addrs("fe80::1") }, "client: fe80::1: want an address that is valid beyond one link"},
		"IPv4 in IPv6":           {DualStack, func(n *Network) { n.Nodes[0].Own = addrs("::ffff:10.0.0.1") }, "client: ::ffff:10.0.0.1: want the IPv4 address itself"},
		"two owners":             {IPv6, func(n *Network) { n.Nodes[0].Own, n.Nodes[2].Own = addrs("fd00::1"), addrs("fd00::1") }, "client and server both have the address fd00::1"},
		"link": {IPv4, func(n *Network) {
			n.Links[0].OuterAddr, n.Links[0].InnerAddr = addr("fd00::1"), addr("fd00::2")
		}, "router: fd00::2: " + none6},
		"link with both": {IPv6, func(n *Network) {
			n.Links[0].OuterAddr6, n.Links[0].InnerAddr6 = addr("fd00::1"), addr("fd00::2")
		}, "link of client and router: fd00::1 and fd00::2: OuterAddr6 and InnerAddr6 are of a dual-stack network"},
		"one end of a link": {DualStack, func(n *Network) { n.Links[0].OuterAddr6 = addr("fd00::1") }, "link of client and router: an address at one end only"},
		"link in the wrong field": {DualStack, func(n *Network) {
			n.Links[0].OuterAddr, n.Links[0].InnerAddr = addr("fd00::1"), addr("fd00::2")
		}, "fd00::1 and fd00::2: the IPv6 addresses of a dual-stack network are OuterAddr6 and InnerAddr6"},
		"IPv4 in the field of IPv6": {DualStack, func(n *Network) {
			n.Links[0].OuterAddr6, n.Links[0].InnerAddr6 = addr("10.0.0.1"), addr("10.0.0.2")
		}, "10.0.0.1 and 10.0.0.2: OuterAddr6 and InnerAddr6 are IPv6 addresses"},
		"route": {IPv6, func(n *Network) {
			n.Nodes[0].Routes = []Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: "router"}}
		}, "client: route to 10.0.0.0/8: " + none4},
		"route that goes round": {DualStack, func(n *Network) {
			n.Nodes[1].Routes = []Route{{To: netip.MustParsePrefix("2001:db8::/32"), Via: "client"}}
		}, "packets to 2001:db8:: go round: "},
		"source NAT": {IPv4, func(n *Network) {
			n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server", To: addr("fd00::1")}}
		}, "router: source NAT towards \"server\": fd00::1: " + none6},
		"destination NAT": {IPv6, func(n *Network) {
			n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("10.0.0.1:80"), To: []netip.AddrPort{at("10.0.0.2:80")}}}
		}, "router: destination NAT at 10.0.0.1:80: " + none4},
		"rule": {IPv4, func(n *Network) {
			n.Rules = []Rule{{Node: "router", Table: "filter", Chain: "INPUT", Spec: "-j DROP", IP: IPv6}}
		}, `rule "-j DROP": ` + none6},
		"place": {IPv4, func(n *Network) {
			n.Nodes[1].Program, n.Nodes[1].Place = program{}, Place{At: at("[fd00::1]:80"), Servers: []netip.AddrPort{at("10.0.0.2:80")}}
		}, "router: some at [fd00::1]:80: " + none6},
	} {
		t.Run(name, func(t *testing.T) {
			n := chain(c.change)
			n.IP = c.ip
			if err := n.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v\nwant %q", err, c.want)
			}
		})
	}
	for _, ip := range []IPVersion{"", IPv4, IPv6, DualStack} {
		n := chain(nil)
		if n.IP = ip; n.Validate() != nil {
			t.Errorf("%s: %v", ip, n.Validate())
		}
	}
	n := chain(func(n *Network) { n.Nodes[0].Own, n.Nodes[2].Own = addrs("fd00::1"), addrs("fe80::1") })
	err := n.Validate()
	for _, want := range []string{"client: fd00::1", "server: fe80::1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want all at once, %q too", err, want)
		}
	}
}

// The same node has the same numbers in its addresses of both versions.
func TestAddressesOfVersions(t *testing.T) {
	const last4, last6 = "10.10.255.254", "fd74:776c:6162:0:10:10:255:254"
	for ip, want := range map[IPVersion][2]string{IPv4: {last4, ""}, IPv6: {last6, ""}, DualStack: {last4, last6}} {
		members := Topology{Clients: capacity(clientNet), IP: ip}.members()
		got := members[len(members)-1].Identity
		if got.Addr.String() != want[0] || got.Addr6.IsValid() != (want[1] != "") || want[1] != "" && got.Addr6.String() != want[1] {
			t.Errorf("%s: the last client is %+v, want %q", ip, got, want)
		}
	}
	both := Topology{Clients: 1, Servers: 1, IP: DualStack}
	if both.VIP() != both.VIPOf(IPv4) || both.VIPOf(IPv6) != netip.MustParseAddrPort("[fd74:776c:6162:0:10:20:0:2]:80") ||
		both.BehindOf(IPv6)[0] != netip.MustParseAddrPort("[fd74:776c:6162:0:10:30:0:2]:80") {
		t.Errorf("%v, %v", both.VIPOf(IPv6), both.BehindOf(IPv6))
	}
	if four := (Topology{Clients: 1, Servers: 1}); four.VIPOf(IPv6).IsValid() || four.BehindOf(IPv6) != nil {
		t.Errorf("an IPv4 network has %v", four.VIPOf(IPv6))
	}
	if _, err := (Topology{Clients: 1, IP: IPv6}).Network().Plan(); err != nil {
		t.Error(err)
	}
}

// Rules that a node needs are for the version of their addresses, and others for every
// version.
func TestRulesOfVersions(t *testing.T) {
	topology := Topology{Clients: 1, Servers: 1, IP: DualStack, Gateway: GatewaySpec{Kind: Masquerade}, Balancer: BalancerSpec{Kind: DNAT}}
	var rules []string
	for _, node := range []string{"gateway", "balancer"} {
		for _, r := range rulesOf(t, topology, node) {
			for _, one := range r.For(DualStack) {
				rules = append(rules, string(one.IP)+" "+one.Spec)
			}
		}
	}
	want := []string{
		"ipv4 -o balancer -p tcp -j MASQUERADE", "ipv6 -o balancer -p tcp -j MASQUERADE",
		"ipv4 -d 10.20.0.2 -p tcp --dport 80 -j DNAT --to-destination 10.30.0.2:80",
		"ipv6 -d fd74:776c:6162:0:10:20:0:2 -p tcp --dport 80 -j DNAT --to-destination [fd74:776c:6162:0:10:30:0:2]:80",
	}
	if !slices.Equal(rules, want) {
		t.Errorf("rules\n%q\nwant\n%q", rules, want)
	}
	six := SourceNAT{Towards: "a", To: netip.MustParseAddr("fd00::1"), Ports: PortRange{1, 2}}.rule("n", "eth0")
	if six.IP != IPv6 || six.Spec != "-o eth0 -p tcp -j SNAT --to-source [fd00::1]:1-2" {
		t.Errorf("%+v", six)
	}
}

// What is left out has an address of its own, a default route and an interface.
func TestPlanFillsIn(t *testing.T) {
	p, err := chain(nil).Plan()
	if err != nil {
		t.Fatal(err)
	}
	client, _ := p.Node("client")
	router, _ := p.Node("router")
	if client.Addr != client.Ends[0].Addr || len(client.Routes) != 1 || client.Routes[0].Via != "router" || client.Ends[0].Interface != "eth0" {
		t.Errorf("%+v", client)
	}
	if len(router.Ends) != 2 || router.Ends[0].Interface != "client" || len(router.Routes) != 0 {
		t.Errorf("%+v", router)
	}
	if n, found := client.next(netip.MustParseAddr("192.0.2.1")); !found || n != "router" {
		t.Errorf("the client sends to %q, %v", n, found)
	}
}

// A rule's words are as a shell's, but for single quotes.
func TestWords(t *testing.T) {
	words, err := Rule{Spec: `-p tcp  --comment "two words" -j ACCEPT`}.Words()
	if want := []string{"-p", "tcp", "--comment", "two words", "-j", "ACCEPT"}; err != nil || strings.Join(words, "|") != strings.Join(want, "|") {
		t.Errorf("%q, %v, want %q", words, err, want)
	}
}
