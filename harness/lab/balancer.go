//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"twlab/harness/topo"
)

// VIP is where clients connect to: the balancer's address, and its port.
func (l *Lab) VIP() netip.AddrPort {
	return l.topology.VIP()
}

// Behind is where the servers are to listen, in the order of Nodes(Server), so
// that the balancer finds them.
func (l *Lab) Behind() []netip.AddrPort { return l.topology.Behind() }

// Program is the program that balances. It is the lab's to close. The error says
// that the balancer is none.
func (l *Lab) Program() (topo.Running, error) { return l.ProgramAt(string(Balancer)) }

// ProgramAt is the program that balances at a node, as [Lab.Program].
func (l *Lab) ProgramAt(name string) (topo.Running, error) {
	running, found := l.programs[name]
	if !found {
		return nil, fmt.Errorf("no program balances at %s", name)
	}
	return running, nil
}
