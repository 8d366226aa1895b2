//go:build linux

// Package shape changes how large the packets of a link can be, and what becomes of them.
package shape

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"twlab/harness/topo"
)

// ErrNoNetem means that a kernel has no queueing discipline netem.
var ErrNoNetem = errors.New("this kernel lacks netem (module sch_netem, CONFIG_NET_SCH_NETEM): " +
	"make the node a guest whose kernel has it, or do without: drop packets by a rule, or take the link down")

// MTU sets the largest packet of a link, in bytes without the Ethernet header.
func MTU(h *netlink.Handle, name string, mtu int) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := h.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", name, mtu, err)
	}
	return nil
}

// Egress sets what becomes of packets that leave over a link; with the zero value they leave as
// they are. Packets that wait are lost. The error wraps [ErrNoNetem] when the kernel lacks it.
func Egress(h *netlink.Handle, name string, i topo.Impairment) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	q := netem(link, i)
	// Not a change of the netem that is there: it would keep what is not mentioned
	// (netem_change). When there is none, the root has no handle, or another one, or is of
	// another kind (tc_get_qdisc).
	if err := h.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove netem from %s: %w", name, err)
	}
	if i == (topo.Impairment{}) {
		return nil
	}
	err = h.QdiscAdd(q)
	if errors.Is(err, unix.ENOENT) { // no such kind (qdisc_create)
		err = ErrNoNetem
	}
	if err != nil {
		return fmt.Errorf("set netem on %s: %w", name, err)
	}
	return nil
}

// orderly is a rate, in bytes per second, that no link here reaches. With a rate, netem counts
// the delay from the packet before (netem_enqueue), so that none overtakes another.
const orderly = 1 << 37

func netem(link netlink.Link, i topo.Impairment) netlink.Qdisc {
	const bits = 8
	rate := i.Rate / bits
	if rate == 0 && i.KeepOrder {
		rate = orderly
	}
	return netlink.NewNetem(
		netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		netlink.NetemQdiscAttrs{
			Loss: float32(i.Loss), Duplicate: float32(i.Duplicate),
			Latency: uint32(i.Delay / time.Microsecond), Jitter: uint32(i.Jitter / time.Microsecond), //nolint:gosec // it is valid, so it fits
			Rate64: rate, Limit: uint32(i.Limit), //nolint:gosec // it is valid, so it fits
		},
	)
}
