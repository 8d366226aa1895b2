//go:build linux

package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"twlab/harness/http"
	"twlab/harness/tcp"
)

// Listen opens a listening socket on the node.
func (l *Local) Listen(ctx context.Context, spec tcp.ListenSpec) (Listening, error) {
	spec.At = l.at(spec.At)
	handle, addr, err := l.host.Listen(ctx, spec)
	return l.listening(handle, addr, err)
}

// TryListen opens a listening socket on the node, and returns what the kernel says of it.
func (l *Local) TryListen(ctx context.Context, spec tcp.ListenSpec) (tcp.ListenResult, error) {
	spec.At = l.at(spec.At)
	return l.listened(l.host.TryListen(ctx, spec))
}

// Serve opens a listening socket on the node that answers HTTP requests.
func (l *Local) Serve(ctx context.Context, spec http.ListenSpec) (Listening, error) {
	spec.At = l.at(spec.At)
	handle, addr, err := l.web.Listen(ctx, spec)
	return l.listening(handle, addr, err)
}

// TryServe is Serve, and returns what the kernel says of the listening socket.
func (l *Local) TryServe(ctx context.Context, spec http.ListenSpec) (tcp.ListenResult, error) {
	spec.At = l.at(spec.At)
	return l.listened(l.web.TryListen(ctx, spec))
}

// at completes an address that is not given: all of the IP version that the node has.
func (l *Local) at(addr netip.AddrPort) netip.AddrPort {
	if !addr.Addr().IsValid() && l.id.Addr.Is6() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port())
	}
	return addr
}

// listening returns a socket with the address at which others reach it.
func (l *Local) listening(handle tcp.Handle, addr netip.AddrPort, err error) (Listening, error) {
	if err == nil {
		addr, err = l.reachable(addr)
	}
	return Listening{Handle: handle, Addr: addr}, l.wrap(err)
}

// listened is listening for a result.
func (l *Local) listened(got tcp.ListenResult, err error) (tcp.ListenResult, error) {
	if err == nil {
		got.Addr, err = l.reachable(got.Addr)
	}
	return got, l.wrap(err)
}

// reachable replaces the unspecified address by the node's own of the same IP version.
func (l *Local) reachable(addr netip.AddrPort) (netip.AddrPort, error) {
	if !addr.Addr().IsUnspecified() {
		return addr, nil
	}
	own := l.id.Addr
	if own.IsValid() && own.Is4() != addr.Addr().Is4() {
		var err error
		if own, err = l.other(addr.Addr().Is4()); err != nil {
			return addr, fmt.Errorf("find the address of the node that belongs to %v: %w", addr, err)
		}
	}
	return netip.AddrPortFrom(own, addr.Port()), nil
}

// other returns the first global address of the IP version that the node's identity does not
// have, and the loopback address when there is none.
func (l *Local) other(four bool) (found netip.Addr, err error) {
	err = l.inside(func() error {
		all, err := net.InterfaceAddrs()
		if err != nil {
			return err
		}
		for _, one := range all {
			prefix, err := netip.ParsePrefix(one.String())
			if err == nil && prefix.Addr().Is4() == four && prefix.Addr().IsGlobalUnicast() {
				found = prefix.Addr()
				return nil
			}
		}
		return nil
	})
	switch {
	case err != nil || found.IsValid():
		return found, err
	case four:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	default:
		return netip.IPv6Loopback(), nil
	}
}
