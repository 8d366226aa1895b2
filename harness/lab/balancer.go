//go:build linux

package lab

import (
	"context"
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

// StopProgram stops the program that balances at a node (topo.Stoppable). The end that
// follows is no failure.
func (l *Lab) StopProgram(ctx context.Context, name string, how topo.StopMode) error {
	p, err := programThat[topo.Stoppable](l, name, "cannot be stopped")
	if err != nil {
		return err
	}
	return at(name, p.Stop(ctx, how))
}

// StartProgram starts the program that balances at a node again after StopProgram.
func (l *Lab) StartProgram(ctx context.Context, name string) error {
	p, err := programThat[topo.Stoppable](l, name, "cannot be started again")
	if err != nil {
		return err
	}
	return at(name, p.Start(ctx))
}

// ReloadProgram makes the program that balances at a node use the configuration of another
// one of its kind; nil is the one that it has (topo.Reloadable).
func (l *Lab) ReloadProgram(ctx context.Context, name string, to topo.Program) error {
	p, err := programThat[topo.Reloadable](l, name, "cannot be reloaded")
	if err != nil {
		return err
	}
	return at(name, p.Reload(ctx, to))
}

// PauseProgram stops the processes that serve of the program at a node, and returns when
// they stand still; ContinueProgram lets them run again (topo.Pausable).
func (l *Lab) PauseProgram(ctx context.Context, name string) error {
	p, err := programThat[topo.Pausable](l, name, "cannot be paused")
	if err != nil {
		return err
	}
	return at(name, p.Pause(ctx))
}

// ContinueProgram ends what PauseProgram has begun.
func (l *Lab) ContinueProgram(name string) error {
	p, err := programThat[topo.Pausable](l, name, "cannot be paused")
	if err != nil {
		return err
	}
	return at(name, p.Continue())
}

// programThat finds the program at a node and what it can do.
func programThat[Can any](l *Lab, name, cannot string) (can Can, err error) {
	running, err := l.ProgramAt(name)
	if err != nil {
		return can, err
	}
	can, does := running.(Can)
	if !does {
		return can, fmt.Errorf("%s: its program %s", name, cannot)
	}
	return can, nil
}

// at names the node in an error.
func at(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// balance starts the programs that balance.
func (b *builder) balance(ctx context.Context) error {
	for _, m := range b.lab.machines {
		if m.Program == nil {
			continue
		}
		running, err := m.start(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		b.lab.programs[m.Name] = running
	}
	return nil
}

// start starts the program of a node.
func (m *machine) start(ctx context.Context) (topo.Running, error) {
	if program, is := m.ByKernel(); is && m.IsGuest() {
		return program.StartOn(ctx, m.own, m.Place)
	}
	return m.Program.Start(ctx, m.space.Do, m.Place)
}
