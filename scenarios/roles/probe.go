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

// Probe finds out about the kernel of a node. It needs no privileges there.
func Probe(ctx context.Context, n node.Node) (kernel.Facts, error) {
	release, err := n.Release(ctx)
	if err != nil {
		return kernel.Facts{}, fmt.Errorf("probe: %w", err)
	}
	facts := kernel.FactsOf(release)
	for _, f := range kernel.Features() {
		var fact kernel.Fact
		var err error
		switch {
		case f.Sysctl != "":
			fact, err = situation.HasSysctl(ctx, n, f.Sysctl)
		case f.Counter != "":
			fact, err = hasCounter(ctx, n, f.Counter)
		case f.Symbol != "":
			fact, err = n.HasSymbol(ctx, f.Symbol)
		case f.Default != (kernel.Default{}):
			fact, err = byDefault(ctx, n, f.Default)
		case f.Refused != (kernel.Refused{}):
			fact, err = byRefusal(ctx, n, f.Refused)
		case f.Option:
			fact, err = byOption(ctx, n)
		}
		if err != nil {
			return kernel.Facts{}, fmt.Errorf("probe %s: %w", f.Feature, err)
		}
		if fact != kernel.Unknown {
			facts.Features[f.Feature] = fact
		}
	}
	return facts, nil
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

// byDefault reads a sysctl that nobody is to have set. What is neither of the two
// defaults, or is not shown here, tells nothing.
func byDefault(ctx context.Context, n node.Node, d kernel.Default) (kernel.Fact, error) {
	value, err := n.Sysctl(ctx, d.Sysctl)
	var absent *kernel.SysctlError
	switch {
	case errors.As(err, &absent):
		return kernel.Unknown, nil
	case err != nil:
		return kernel.Unknown, err
	case value == d.With:
		return kernel.Yes, nil
	case value == d.Without:
		return kernel.No, nil
	default:
		return kernel.Unknown, nil
	}
}

// byRefusal tries to set a sysctl. Where that succeeds, it has its old value again
// afterwards.
func byRefusal(ctx context.Context, n node.Node, r kernel.Refused) (kernel.Fact, error) {
	was, err := n.Sysctl(ctx, r.Sysctl)
	if err == nil {
		err = n.SetSysctl(ctx, r.Sysctl, r.Value)
	}
	var refused *kernel.SysctlError
	switch {
	case err == nil:
		return kernel.No, n.SetSysctl(ctx, r.Sysctl, was)
	case errors.Is(err, kernel.ErrSysctlValue):
		return kernel.Yes, nil
	case errors.As(err, &refused): // it cannot be set here
		return kernel.Unknown, nil
	default:
		return kernel.Unknown, err
	}
}

// byOption asks for a port as late as connect(2), at a port of the loopback where nobody
// listens: a kernel without the option refuses it before anything is sent.
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
