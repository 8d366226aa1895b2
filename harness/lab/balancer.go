//go:build linux

package lab

import (
	"fmt"
	"net/netip"

	"twlab/harness/topo"
)

// VIP returns what clients connect to: the balancer's address and its port.
func (l *Lab) VIP() netip.AddrPort {
	return l.topology.VIP()
}

// Behind returns the addresses, in the order of Nodes(Server), that the servers must listen
// on so that the balancer finds them.
func (l *Lab) Behind() []netip.AddrPort { return l.topology.Behind() }

// Program returns the program that balances. The lab closes it. It returns an error when
// the balancer is not a program.
func (l *Lab) Program() (topo.Running, error) {
	if l.program == nil {
		return nil, fmt.Errorf("the balancer of this lab (kind %q) is not a program", l.topology.Balancer.Kind)
	}
	return l.program, nil
}
