//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"twlab/harness/topo"
)

// VIP returns what clients connect to: the balancer's address and its port, in a dual-stack
// network the IPv4 address. It is not valid for a lab that BuildNetwork has built: what
// clients connect to is in the network.
func (l *Lab) VIP() netip.AddrPort {
	if l.topology.Clients == 0 {
		return netip.AddrPort{}
	}
	return l.topology.VIP()
}

// Behind returns the addresses, in the order of Nodes(Server), that the servers must listen
// on so that the balancer finds them.
func (l *Lab) Behind() []netip.AddrPort { return l.topology.Behind() }

// Program returns the program that balances. The lab closes it. It returns an error when
// the balancer is not a program.
func (l *Lab) Program() (topo.Running, error) { return l.ProgramAt(string(Balancer)) }

// ProgramAt returns the program that balances at a node. The lab closes it.
func (l *Lab) ProgramAt(name string) (topo.Running, error) {
	running, found := l.programs[name]
	if !found {
		return nil, fmt.Errorf("no program balances at %s", name)
	}
	return running, nil
}
