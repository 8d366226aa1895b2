//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/line"
	"twlab/harness/internal/vm"
	"twlab/harness/internal/wire"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// MostCards is the maximum number of network cards of a guest.
const MostCards = 24

// Config describes a guest.
type Config struct {
	Host
	Node   topo.Identity
	Kernel kernel.Image
	// Cards are its network cards; Boot takes over their taps and closes them. Own are the
	// addresses that it has on lo: those of the node, too, when no card has them. Routes are
	// its routes, in addition to those to its neighbours.
	Cards  []lab.Card
	Own    []netip.Addr
	Routes []topo.Hop
	// Conntrack is how the guest tracks connections.
	Conntrack Conntrack
	// Modules are loaded if they exist, in addition to those that every guest uses.
	Modules []string
}

// wanted lists the modules that the guest uses; each is loaded if it exists. Without
// tcp_diag a kernel lists its sockets in /proc/net/tcp.
func (c *Config) wanted() []string {
	modules := append([]string{"virtio_pci", "virtio_net", "e1000", "tcp_diag", "sch_netem"}, c.Modules...)
	if c.hasIPv6() {
		modules = append([]string{"ipv6"}, modules...)
	}
	return modules
}

// hasIPv6 reports whether the guest has an IPv6 address.
func (c *Config) hasIPv6() bool {
	all := append(slices.Clone(c.Own), c.Node.Addr, c.Node.Addr6)
	return slices.ContainsFunc(all, netip.Addr.Is6) ||
		slices.ContainsFunc(c.Cards, func(card lab.Card) bool { return wire.HasIPv6(card.Pairs) })
}

// own are the addresses on lo.
func (c *Config) own() []netip.Addr {
	all := slices.Clone(c.Own)
	for _, a := range []netip.Addr{c.Node.Addr, c.Node.Addr6} {
		onCard := func(card lab.Card) bool {
			return slices.ContainsFunc(card.Pairs, func(p topo.Pair) bool { return p.Addr == a })
		}
		if a.IsValid() && !slices.Contains(all, a) && !slices.ContainsFunc(c.Cards, onCard) {
			all = append(all, a)
		}
	}
	return all
}

// modules lists the modules of this guest, and their parameters.
func (c *Config) modules(available vm.Modules) (names []string, parameters map[string]string, err error) {
	own, parameters, err := c.Conntrack.modules(available)
	return append(c.wanted(), own...), parameters, err
}

// models lists the network cards to try: virtio-net, because a packet passes it as it
// passes veth, and e1000, whose driver is in many kernels that lack the other. For an image
// without modules, only a boot shows which driver is built in.
func (c *Config) models(available vm.Modules) []string {
	if c.Kernel.Modules != "" && !available.Has("virtio_net") {
		return []string{"e1000"}
	}
	return []string{"virtio-net-pci", "e1000"}
}

// Boot boots a kernel and returns when the guest is a node: its network is up. When it
// fails, the error says what happened, and nothing of the guest remains; the error is a
// *DeadError when the guest had started to run.
func Boot(ctx context.Context, c Config) (m *Machine, err error) {
	defer func() {
		errs := []error{err}
		for _, card := range c.Cards {
			errs = append(errs, card.Tap.Close())
		}
		if err = errors.Join(errs...); err != nil {
			err = fmt.Errorf("boot %s: %w", c.Kernel, err)
		}
	}()
	if err := c.check(); err != nil {
		return nil, err
	}
	release, available, err := vm.OpenKernel(c.Kernel)
	if err != nil {
		return nil, err
	}
	names, parameters, err := c.modules(available)
	if err != nil {
		return nil, err
	}
	files, err := vm.Initramfs(c.Agent, available, names)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	if c.Accelerator == Automatic {
		if c.Accelerator, err = Accelerate(ctx, c.Kernel); err != nil {
			return nil, err
		}
	}
	for _, model := range c.models(available) {
		p := vm.Plan{
			Image: c.Kernel.Path, Initramfs: files, Accelerator: c.Accelerator,
			Memory: c.MemoryMiB, Model: model, IPv6: c.hasIPv6(),
		}
		for _, card := range c.Cards {
			p.Cards = append(p.Cards, vm.Card{Hardware: card.Hardware.String(), Tap: card.Tap})
		}
		if m, err = c.boot(ctx, p, release, parameters); !errors.Is(err, agent.ErrNoCard) {
			break
		}
	}
	return m, err
}

// check returns what is wrong before anything is started.
func (c *Config) check() error {
	if c.MemoryMiB == 0 {
		c.MemoryMiB = DefaultMemory
	}
	if len(c.Cards) > MostCards {
		return fmt.Errorf("%d network cards: a guest has at most %d", len(c.Cards), MostCards)
	}
	return nil
}

// boot starts the guest once.
func (c *Config) boot(ctx context.Context, p vm.Plan, release kernel.Release, modules map[string]string) (*Machine, error) {
	// At the last moment, when the memory of guests started earlier is visible.
	if err := c.EnoughMemory(1); err != nil {
		return nil, err
	}
	began := time.Now()
	q, err := p.Start()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		id: c.Node, release: release, qemu: q, accelerator: c.Accelerator,
		caller: line.NewCaller(q.Line, agent.Errors(), c.MaxSilence),
	}
	within, stop := context.WithTimeoutCause(ctx, vm.BootTimeout, fmt.Errorf("no sign of life for %v", vm.BootTimeout))
	defer stop()
	if err := m.caller.Greet(within, agent.Fingerprint()); err != nil {
		if within.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(within), err)
		}
		err = m.postMortem(fmt.Errorf("no message from the agent: %w%s", err, c.hint(err)))
		m.kill()
		return nil, err
	}
	m.boot = time.Since(began)
	files, err := p.Initramfs.Stat()
	if err != nil {
		m.kill()
		return nil, err
	}
	m.initramfs = files.Size()
	s := agent.Setup{Node: c.Node, Owner: tcp.NewOwner(), Own: c.own(), Routes: c.Routes, Modules: modules}
	for _, card := range c.Cards {
		s.Links = append(s.Links, agent.Link{
			Name: card.Name, Hardware: card.Hardware.String(),
			Pairs: card.Pairs, PeerHardwareAddr: card.PeerHardware.String(),
		})
	}
	if _, err := agent.SetUp.Call(within, m.caller, s); err != nil {
		err = m.postMortem(fmt.Errorf("set up: %w%s", err, c.hint(err)))
		m.kill()
		return nil, err
	}
	return m, nil
}

// hint returns advice.
func (c *Config) hint(err error) string {
	switch {
	case errors.Is(err, line.ErrVersion):
		return "; build the agent from the same sources as this program: " +
			"CGO_ENABLED=0 GOARCH=amd64 go build -o " + c.Agent + " ./hack/cmd/agent"
	case errors.Is(err, agent.ErrNoCard) && c.Kernel.Modules == "":
		return "; neither virtio_net nor e1000 is built in: give the kernel's modules directory too"
	case errors.Is(err, agent.ErrNoCard):
		return "; neither virtio_net nor e1000 is among its modules"
	case errors.Is(err, line.ErrLost), errors.Is(err, context.DeadlineExceeded):
		return "; try the image by hand with -serial stdio, or another one; it must be for x86-64 and have " +
			"CONFIG_BLK_DEV_INITRD, CONFIG_BINFMT_ELF and CONFIG_SERIAL_8250_CONSOLE"
	}
	return ""
}
