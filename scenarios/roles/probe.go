package roles

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// Probe finds out what the kernel of a node can do. It needs no privileges there.
func Probe(ctx context.Context, n node.Node) (kernel.Facts, error) {
	release, err := n.Release(ctx)
	if err != nil {
		return kernel.Facts{}, fmt.Errorf("probe: %w", err)
	}
	facts := kernel.FactsOf(release)
	for _, f := range kernel.Features() {
		fact, err := try(ctx, n, f.Probe)
		if err != nil {
			return kernel.Facts{}, fmt.Errorf("probe %s: %w", f.Feature, err)
		}
		if fact != kernel.Unknown {
			facts.Features[f.Feature] = fact
		}
	}
	return facts, nil
}

func try(ctx context.Context, n node.Node, p kernel.Probe) (kernel.Fact, error) {
	switch p.Kind {
	case kernel.BySysctl:
		return situation.HasSysctl(ctx, n, p.Name)
	case kernel.ByCounter:
		return hasCounter(ctx, n, p.Name)
	case kernel.BySymbol:
		return n.HasSymbol(ctx, p.Name)
	case kernel.ByDefault:
		return byDefault(ctx, n, p)
	case kernel.ByRefusal:
		return byRefusal(ctx, n, p)
	case kernel.ByOption:
		return byOption(ctx, n)
	case kernel.NoProbe:
		return kernel.Unknown, nil
	}
	return kernel.Unknown, fmt.Errorf("no such kind of probe: %q", p.Kind)
}

func hasCounter(ctx context.Context, n node.Node, name string) (kernel.Fact, error) {
	counters, err := n.Counters(ctx)
	if err != nil {
		return kernel.Unknown, err
	}
	if _, counted := counters[name]; !counted {
		return kernel.No, nil
	}
	return kernel.Yes, nil
}

// byDefault reads a sysctl that must still have its default. If the value is neither of the
// two defaults, or the sysctl is not shown here, the result is unknown.
func byDefault(ctx context.Context, n node.Node, p kernel.Probe) (kernel.Fact, error) {
	value, err := n.Sysctl(ctx, p.Name)
	var absent *kernel.SysctlError
	switch {
	case errors.As(err, &absent):
		return kernel.Unknown, nil
	case err != nil:
		return kernel.Unknown, err
	case value == p.Value:
		return kernel.Yes, nil
	case value == p.Without:
		return kernel.No, nil
	default:
		return kernel.Unknown, nil
	}
}

// byRefusal tries to set a sysctl. If that succeeds, it restores the old value.
func byRefusal(ctx context.Context, n node.Node, p kernel.Probe) (kernel.Fact, error) {
	was, err := n.Sysctl(ctx, p.Name)
	if err == nil {
		err = n.SetSysctl(ctx, p.Name, p.Value)
	}
	var refused *kernel.SysctlError
	switch {
	case err == nil:
		return kernel.No, n.SetSysctl(ctx, p.Name, was)
	case errors.Is(err, kernel.ErrSysctlValue):
		return kernel.Yes, nil
	case errors.As(err, &refused): // it cannot be set here
		return kernel.Unknown, nil
	default:
		return kernel.Unknown, err
	}
}

// byOption connects with IP_BIND_ADDRESS_NO_PORT to a loopback port without a listener. A
// kernel without the option refuses it before anything is sent.
func byOption(ctx context.Context, n node.Node) (kernel.Fact, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	out, err := n.Connect(ctx, tcp.Attempt{
		To: netip.AddrPortFrom(loopback, 9), From: netip.AddrPortFrom(loopback, 0), LatePort: true, Budget: loopbackBudget,
	})
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return kernel.No, nil
	case err != nil:
		return kernel.Unknown, err
	case out.Outcome == tcp.Refused || out.Outcome == tcp.Connected:
		return kernel.Yes, nil
	default:
		return kernel.Unknown, nil
	}
}
