package nat

import (
	"fmt"
	"strings"
	"time"

	"twlab/harness/lab"
)

// Profile is a kind of gateway that clients come through.
type Profile struct {
	// Name is one word, About what it is.
	Name, About string
	// Ports is the number of ports towards one destination: for one public address or,
	// with PerClient, for each client.
	Ports     int
	PerClient bool
	// Timeout is how long a port is not reused after both sides have closed; 0 if that is
	// not published.
	Timeout time.Duration
	// Random is how it chooses among the free ports.
	Random lab.RandomMode
	// Evicts says that it is a Linux NAT, which takes the port of a closing
	// connection when it has no other, on kernels that do (EvictsClosing).
	Evicts bool
	// Source is where the numbers are from; Assumed is what is not published.
	Source, Assumed string
}

// Ceiling is how many connections per second to one destination the profile allows, in all
// or, with PerClient, for each client: Ports/Timeout. It is 0 if the timeout is not known.
func (p Profile) Ceiling() float64 {
	if p.Timeout == 0 {
		return 0
	}
	return float64(p.Ports) / p.Timeout.Seconds()
}

// The numbers of Linux itself: MASQUERADE gives ports from 1024 on to a client whose own
// port is 1024 or above (nf_nat_l4proto_unique_tuple).
const (
	linuxPorts   = 1<<16 - 1024
	linuxTimeout = 120 * time.Second
)

// Profiles are the known profiles, as data. None is the product itself: a gateway of the
// lab gets the product's port range, blocks, way to choose a port and conntrack timeout.
func Profiles() []Profile {
	return []Profile{
		{
			Name: "linux", About: "a Linux gateway with MASQUERADE and the kernel's defaults",
			Ports: linuxPorts, Timeout: linuxTimeout, Evicts: true,
			Source: "nf_nat_l4proto_unique_tuple, nf_conntrack_proto_tcp.c: tcp_timeouts",
		},
		{
			Name: "home-router", About: "a home router with OpenWrt",
			Ports: linuxPorts, Timeout: linuxTimeout, Evicts: true,
			Source: "openwrt: package/kernel/linux/files/sysctl-nf-conntrack.conf shortens ESTABLISHED to 7440 s and leaves TIME_WAIT alone",
		},
		{
			Name: "kube-proxy", About: "a Kubernetes node whose kube-proxy masquerades with --random-fully",
			Ports: linuxPorts, Timeout: linuxTimeout, Random: lab.FullyRandom, Evicts: true,
			Source:  "kubernetes: pkg/proxy/iptables; --conntrack-tcp-timeout-* set ESTABLISHED and CLOSE_WAIT only",
			Assumed: "the node's kernel has its default conntrack timeout",
		},
		{
			Name: "cilium", About: "a Kubernetes node whose Cilium masquerades in BPF",
			Ports: linuxPorts, Timeout: 10 * time.Second, Random: lab.FullyRandom,
			Source:  "cilium: bpf-ct-timeout-regular-tcp-fin, 10 s by default",
			Assumed: "all ports from 1024 on; no port is taken from a closing connection",
		},
		{
			Name: "carrier", About: "a carrier's NAT with a block of ports for each subscriber",
			Ports: 1008, PerClient: true, Timeout: 120 * time.Second,
			Source:  "RFC 7422 (blocks), RFC 6888 REQ-8 (120 s; ports of a block may come back at once, as the RFC allows)",
			Assumed: "64 subscribers for each address, with 64512/64 ports each",
		},
		{
			Name: "gcp", About: "a Google Cloud NAT created since 30 September 2026, with the minimum number of ports for each VM",
			Ports: 64, PerClient: true, Timeout: 30 * time.Second, Random: lab.Random,
			Source:  "https://cloud.google.com/nat/docs/tune-nat-configuration (64 ports; tcp-time-wait-timeout 30 s, before 120 s)",
			Assumed: "how it chooses a port",
		},
		{
			Name: "gcp-before", About: "a Google Cloud NAT created before that date",
			Ports: 64, PerClient: true, Timeout: 120 * time.Second, Random: lab.Random,
			Source:  "https://cloud.google.com/nat/docs/tune-nat-configuration",
			Assumed: "how it chooses a port",
		},
		{
			Name: "azure", About: "an Azure NAT Gateway with one public address",
			Ports: 64512, Timeout: 65 * time.Second, Random: lab.FullyRandom,
			Source: "https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource (64512 ports, chosen at random, a cool down " +
				"timer before a port goes to the same destination again)",
			Assumed: "the timer is 65 s after a FIN, as that page once said",
		},
		{
			Name: "aws", About: "an AWS NAT gateway with one public address",
			Ports: 55000, Random: lab.FullyRandom,
			Source:  "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html (55000 connections to one destination; idle after 350 s)",
			Assumed: "how it chooses a port; it is not published when a port is free again after a close",
		},
	}
}

// ProfileNamed finds a profile. The error says which there are.
func ProfileNamed(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("no profile %q: want one of %s", name, strings.Join(names, ", "))
}

// Topology is a lab of so many clients behind the profile, with all its ports. If each
// client has its own block, there may be only as many clients as fit behind one address.
func (p Profile) Topology(clients int) (lab.Topology, error) {
	block := 0
	ports := p.Ports
	if p.PerClient {
		block, ports = p.Ports, p.Ports*clients
	}
	const first = 1<<16 - linuxPorts
	if ports > linuxPorts {
		return lab.Topology{}, fmt.Errorf("profile %s: %d ports for each of %d clients: one address has only %d, enough for %d clients",
			p.Name, p.Ports, clients, linuxPorts, linuxPorts/p.Ports)
	}
	return p.behind(clients, lab.PortRange{First: first, Last: uint16(first + ports - 1)}, block), nil
}

// behind is a lab of clients behind the profile with such ports.
func (p Profile) behind(clients int, ports lab.PortRange, block int) lab.Topology {
	t := lab.Topology{
		Clients: clients,
		Gateway: lab.GatewaySpec{Kind: lab.Masquerade, Ports: ports, PerClient: block, Random: p.Random},
	}
	if p.Timeout > 0 {
		t.Sysctls = lab.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_time_wait=%.0f", p.Timeout.Seconds()))
	}
	return t
}
