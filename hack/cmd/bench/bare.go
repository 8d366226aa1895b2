package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/topo"
)

// machine is a namespace to be made, and its link towards an earlier one.
type machine struct {
	name      string
	addr      netip.Addr
	inner     string // "" for the gateway
	innerAddr netip.Addr
}

// gateway is the machine where all links end.
const gateway = "gateway"

// nat is the gateway's rule, for the chain POSTROUTING.
var nat = []string{"-o", "balancer", "-p", "tcp", "-j", "MASQUERADE"}

// plan has the same machines, names and addresses as lab.Build.
func plan(clients int) []machine {
	outside := netip.MustParseAddr("10.20.0.1")
	machines := []machine{
		{name: gateway, addr: outside},
		{name: "balancer", addr: netip.MustParseAddr("10.20.0.2"), inner: gateway, innerAddr: outside},
	}
	inside := netip.MustParseAddr("10.10.0.1")
	for i := range clients {
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], 10<<24|10<<16|2+uint32(i))
		machines = append(machines, machine{fmt.Sprintf("client%d", i), netip.AddrFrom4(addr), gateway, inside})
	}
	return machines
}

// setting is a file below /proc/sys and what is to be in it.
type setting struct{ name, value string }

func (s setting) path() string { return "/proc/sys/" + strings.ReplaceAll(s.name, ".", "/") }

var forward = setting{"net.ipv4.ip_forward", "1"}

// baselineSettings is what lab.Build writes on every node: the part of
// topo.Network.Common that a new namespace does not have by itself.
func baselineSettings() (different []setting, err error) {
	fresh, err := ns.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	err = fresh.Do(func() error {
		for _, s := range (topo.Network{}).Common() {
			// A sysctl that this kernel does not have is not written either.
			if value, err := kernel.ReadSysctl(s.Name); err == nil && value != s.Value {
				different = append(different, setting{s.Name, s.Value})
			}
		}
		return nil
	})
	return different, err
}

// bareLab is made by the shortest loop that makes the same objects as lab.Build:
// one after the other, nothing looked up twice, checked or waited for.
type bareLab struct{ spaces []*ns.Namespace }

func (b *bareLab) Watch(w *ns.Watch) error {
	for _, space := range b.spaces {
		if err := w.Add(space); err != nil {
			return err
		}
	}
	return nil
}

func (b *bareLab) Close() error {
	var errs []error
	for _, space := range b.spaces {
		errs = append(errs, space.Close())
	}
	return errors.Join(errs...)
}

func buildBare(machines []machine, settings []setting) (*bareLab, error) {
	b := &bareLab{}
	var (
		inner  *ns.Namespace // the gateway
		inners *netlink.Handle
	)
	defer func() {
		if inners != nil {
			inners.Close()
		}
	}()
	for _, m := range machines {
		space, err := ns.New()
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.spaces = append(b.spaces, space)
		var h *netlink.Handle
		err = space.Do(func() (err error) {
			h, err = prepareBare(m, settings)
			return err
		})
		if err == nil {
			err = linkBare(m, h, inner, inners)
		}
		if m.name == gateway {
			inner, inners = space, h
		} else if h != nil {
			h.Close()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", m.name, err), b.Close())
		}
	}
	return b, nil
}

// prepareBare sets up the calling thread's namespace and opens a handle on it.
func prepareBare(m machine, settings []setting) (*netlink.Handle, error) {
	for _, s := range settings {
		if err := os.WriteFile(s.path(), []byte(s.value), 0); err != nil {
			return nil, err
		}
	}
	if m.name == gateway {
		ipt, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4))
		if err != nil {
			return nil, err
		}
		if err := ipt.Append("nat", "POSTROUTING", nat...); err != nil {
			return nil, err
		}
		if err := os.WriteFile(forward.path(), []byte(forward.value), 0); err != nil {
			return nil, err
		}
	}
	return netlink.NewHandle(unix.NETLINK_ROUTE)
}

// loopbackIndex is LOOPBACK_IFINDEX of include/net/flow.h.
const loopbackIndex = 1

// linkBare brings lo up and makes the machine's link, if it has one. Errors need
// no words: nobody expects them.
func linkBare(m machine, h *netlink.Handle, inner *ns.Namespace, inners *netlink.Handle) error {
	lo := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: loopbackIndex}}
	if err := h.LinkSetUp(lo); err != nil {
		return err
	}
	if m.inner == "" {
		return h.AddrAdd(lo, &netlink.Addr{IPNet: host(m.addr)})
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "eth0", hardware(0, m.addr)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: m.name, PeerHardwareAddr: hardware(1, m.addr)}
	err := inner.Use(func(fd int) error {
		veth.PeerNamespace = netlink.NsFd(fd)
		return h.LinkAdd(veth)
	})
	if err != nil {
		return err
	}
	if err := endBare(inners, m.name, m.innerAddr, m.addr, hardware(0, m.addr)); err != nil {
		return err
	}
	if err := endBare(h, "eth0", m.addr, m.innerAddr, hardware(1, m.addr)); err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{Gw: m.innerAddr.AsSlice()})
}

func endBare(h *netlink.Handle, name string, near, far netip.Addr, farHardware net.HardwareAddr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: host(near), Peer: host(far)}); err != nil {
		return err
	}
	return h.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: far.AsSlice(), HardwareAddr: farHardware,
	})
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func hardware(side byte, outer netip.Addr) net.HardwareAddr {
	ip := outer.As4()
	return net.HardwareAddr{2, side, ip[0], ip[1], ip[2], ip[3]}
}
