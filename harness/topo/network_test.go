package topo

import (
	"errors"
	"net/netip"
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
		"no address for a node": {func(n *Network) { n.Nodes[0].Own = addrs("224.0.0.1") }, "client: 224.0.0.1: want an IPv4 address of a node"},
		"families of a link": {func(n *Network) {
			n.Links[0].OuterAddr, n.Links[0].InnerAddr = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
		}, "router: fd00::1: want an IPv4 address of a node"},
		"one end without address": {func(n *Network) { n.Links[0].OuterAddr = netip.MustParseAddr("10.0.0.1") }, "link of client and router: an address at one end only"},
		"route via nobody":        {func(n *Network) { n.Nodes[0].Routes = []Route{{Via: "server"}} }, `client: route to everywhere via "server": no link to it`},
		"route of another family": {func(n *Network) { n.Nodes[0].Routes = []Route{{To: netip.MustParsePrefix("fd00::/8"), Via: "router"}} }, "client: route to fd00::/8: networks are IPv4"},
		"route that goes round": {func(n *Network) {
			n.Nodes[1].Routes = []Route{{To: netip.MustParsePrefix("192.0.2.0/24"), Via: "client"}}
		}, "packets to 192.0.2.0 go round: "},
		"NAT without forwarding": {func(n *Network) { n.Nodes[0].SourceNAT = []SourceNAT{{Towards: "router"}} }, "client: NAT on a node that does not forward"},
		"NAT towards nobody":     {func(n *Network) { n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "internet"}} }, `router: source NAT towards "internet": no link to it`},
		"ports turned round":     {func(n *Network) { n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server", Ports: PortRange{9, 8}}} }, "port range 9-8 is reversed"},
		"NAT from another family": {func(n *Network) {
			n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server", From: netip.MustParsePrefix("10.0.0.0/8"), To: netip.MustParseAddr("fd00::1")}}
		}, "from 10.0.0.0/8 to fd00::1: networks are IPv4"},
		"destination NAT to none": {func(n *Network) { n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80")}} }, "router: destination NAT at 192.0.2.1:80: no destination"},
		"destination NAT of both": {func(n *Network) {
			n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80"), To: []netip.AddrPort{at("[fd00::1]:80")}}}
		}, "destination [fd00::1]:80: want an IPv4 address and a port"},
		"destination without port": {func(n *Network) {
			n.Nodes[1].DestinationNAT = []DestinationNAT{{At: at("192.0.2.1:80"), To: []netip.AddrPort{at("10.0.0.1:0")}}}
		}, "destination 10.0.0.1:0: want an IPv4 address and a port"},
		"way of replies":          {func(n *Network) { n.Nodes[2].Replies = "back" }, `server: unknown way of replies "back"`},
		"tracking":                {func(n *Network) { n.Nodes[2].Tracking = "some" }, `server: unknown tracking "some"`},
		"NAT without tracking":    {func(n *Network) { n.Nodes[1].Tracking = Never; n.Nodes[1].SourceNAT = []SourceNAT{{Towards: "server"}} }, `router: tracking "never" with NAT`},
		"two guests":              {func(n *Network) { n.Nodes[0].Kind, n.Nodes[1].Kind = other{}, other{} }, "client and router are both guests and share a link"},
		"rules on a guest":        {func(n *Network) { n.Nodes[2].Kind, n.Nodes[2].Tracking = other{}, Always }, "server: no iptables rules there"},
		"program without servers": {func(n *Network) { n.Nodes[1].Program = program{} }, "router: some needs servers"},
		"guest with a VIP":        {func(n *Network) { n.Nodes[2].Kind, n.Nodes[2].Own = other{}, addrs("192.0.2.1") }, "server: a guest has the addresses of its links, and a default route"},
		"guest with a route": {func(n *Network) {
			n.Nodes[2].Kind, n.Nodes[2].Routes = other{}, []Route{{To: netip.MustParsePrefix("192.0.2.0/24"), Via: "router"}}
		}, "server: a guest has the addresses of its links, and a default route"},
		"program on a guest":   {func(n *Network) { n.Nodes[2].Kind, n.Nodes[2].Program = other{}, program{} }, "server: a guest runs no programs"},
		"guest that cannot be": {func(n *Network) { n.Nodes[2].Kind = other{errors.New("no kernel image")} }, "server: no kernel image"},
		"sysctl for nobody":    {func(n *Network) { n.Sysctls = OnNode("balancer", "net.a=1") }, `sysctl net.a: no node "balancer"`},
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
