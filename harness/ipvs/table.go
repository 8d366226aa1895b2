//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"twlab/harness/topo"
)

var (
	// ErrMissing means that the kernel has no IPVS.
	ErrMissing = errors.New("this kernel has no IPVS: load the module ip_vs (CONFIG_IP_VS), " +
		"or use a kernel that has it, such as debian-6.1: --kernel all=debian-6.1")
	// ErrScheduler means that the kernel lacks a scheduler.
	ErrScheduler = errors.New("this kernel lacks the scheduler")
)

// Read reads the virtual services of the namespace of this thread, those of TCP at an address.
// The error wraps [ErrMissing] when the kernel has no IPVS.
func Read() ([]topo.VirtualService, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	messages, err := c.dump(cmdGetService)
	if err != nil {
		return nil, fmt.Errorf("list the virtual services: %w", err)
	}
	var all []topo.VirtualService
	for _, m := range messages {
		f, err := fields(m, attrService)
		if err != nil {
			return nil, fmt.Errorf("read a virtual service: %w", err)
		}
		if number(f[serviceProtocol]) != unix.IPPROTO_TCP || f[serviceAddr] == nil {
			continue // of another protocol, or by a firewall mark
		}
		s := topo.VirtualService{Scheduler: nl.BytesToString(f[serviceScheduler])}
		if s.At, err = address(uint16(number(f[serviceFamily])), f[serviceAddr], f[servicePort]); err != nil { //nolint:gosec // it has 16 bits
			return nil, fmt.Errorf("read a virtual service: %w", err)
		}
		if s.Destinations, err = c.destinations(s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// destinations reads the destinations of a service. All have the family of the service, which
// NAT wants (ip_vs_add_dest).
func (c conversation) destinations(s topo.VirtualService) (all []topo.Destination, err error) {
	messages, err := c.dump(cmdGetDest, name(s, false))
	if err != nil {
		return nil, fmt.Errorf("list the destinations of %v: %w", s.At, err)
	}
	for _, m := range messages {
		f, err := fields(m, attrDest)
		if err != nil {
			return nil, fmt.Errorf("read a destination of %v: %w", s.At, err)
		}
		stats, err := attributes(f[destStats])
		if err != nil {
			return nil, fmt.Errorf("read what is counted of a destination of %v: %w", s.At, err)
		}
		d := topo.Destination{
			Weight: number(f[destWeight]), Active: number(f[destActive]), Inactive: number(f[destInactive]),
			Connections: number(stats[statsConnections]),
		}
		if d.At, err = address(familyOf(s.At.Addr()), f[destAddr], f[destPort]); err != nil {
			return nil, fmt.Errorf("read a destination of %v: %w", s.At, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Set makes these the virtual services of the namespace of this thread. What stays is changed
// in place, so that its connections go on. The error wraps [ErrMissing] or [ErrScheduler].
func Set(wanted []topo.VirtualService) error {
	there, err := Read()
	if err != nil {
		return err
	}
	c, err := open()
	if err != nil {
		return err
	}
	for _, old := range there {
		if find(wanted, old.At) < 0 {
			if err := c.tell(cmdDelService, name(old, false)); err != nil {
				return fmt.Errorf("delete the virtual service %v: %w", old.At, err)
			}
		}
	}
	for _, s := range wanted {
		var old topo.VirtualService
		command, verb := uint8(cmdNewService), "add"
		if i := find(there, s.At); i >= 0 {
			old, command, verb = there[i], cmdSetService, "change"
		}
		err := c.tell(command, name(s, true))
		if errors.Is(err, unix.ENOENT) { // ip_vs_scheduler_get found none, and could load none
			err = fmt.Errorf("%w %s: load the module ip_vs_%[2]s", ErrScheduler, s.SchedulerName())
		}
		if err != nil {
			return fmt.Errorf("%s the virtual service %v: %w", verb, s.At, err)
		}
		if err := c.setDestinations(s, old.Destinations); err != nil {
			return err
		}
	}
	return nil
}

// setDestinations makes the destinations of a service those that it names.
func (c conversation) setDestinations(s topo.VirtualService, there []topo.Destination) error {
	at := func(all []topo.Destination, a netip.AddrPort) bool {
		return slices.ContainsFunc(all, func(d topo.Destination) bool { return d.At == a })
	}
	for _, old := range there {
		if at(s.Destinations, old.At) {
			continue
		}
		if err := c.tell(cmdDelDest, name(s, false), describe(old, false)); err != nil {
			return fmt.Errorf("remove %v from %v: %w", old.At, s.At, err)
		}
	}
	for _, d := range s.Destinations {
		command, verb := uint8(cmdNewDest), "add"
		if at(there, d.At) {
			command, verb = cmdSetDest, "change"
		}
		if err := c.tell(command, name(s, false), describe(d, true)); err != nil {
			return fmt.Errorf("%s the destination %v of %v: %w", verb, d.At, s.At, err)
		}
	}
	return nil
}

// find is the place of the service at an address; -1 when there is none.
func find(all []topo.VirtualService, at netip.AddrPort) int {
	return slices.IndexFunc(all, func(s topo.VirtualService) bool { return s.At == at })
}
