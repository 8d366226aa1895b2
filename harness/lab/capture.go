//go:build linux

package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"twlab/harness/observe"
	"twlab/harness/topo"
)

// Capture records the TCP packets at both ends of some links, from now until
// the lab closes. A link is named by its outer node: "client0" is the link
// between client0 and the gateway, "client0/eth1" its second one, "client0/lo" the
// loopback of client0, where each packet is seen going out and coming in. A link that is recorded already
// goes on as it is. An end at a guest is not recorded: the
// clocks of two kernels are not in step. See [Lab.Path]. When one of the links
// cannot be recorded, none of them begins to be.
func (l *Lab) Capture(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := map[string][]port{}
	for _, name := range names {
		if _, recorded := l.taps[name]; recorded {
			continue
		}
		var err error
		if wanted[name], err = l.ends(name); err != nil {
			return err
		}
	}
	// The kernel makes each tap wait until no packet is under way
	// (synchronize_net), so the waits overlap.
	var opening errgroup.Group
	opened := map[string]link{}
	for name, ends := range wanted {
		k := make(link, len(ends))
		opened[name] = k
		for i, e := range ends {
			opening.Go(func() (err error) {
				k[i], err = e.machine.tap(e.name)
				return err
			})
		}
	}
	if err := opening.Wait(); err != nil {
		return errors.Join(err, stop(opened))
	}
	if l.taps == nil {
		l.taps = map[string]link{}
	}
	maps.Copy(l.taps, opened)
	return nil
}

// port is an interface of a machine, where a tap is opened.
type port struct {
	machine *machine
	name    string
	end     topo.End // of a link; the zero value for lo
}

// ends finds the interfaces of a link. A loopback has only one.
func (l *Lab) ends(link string) ([]port, error) {
	const loopback = "lo"
	if name, own := strings.CutSuffix(link, "/"+loopback); own {
		m, found := l.byName[name]
		if !found {
			return nil, fmt.Errorf("capture: no node %q in this lab", name)
		}
		if m.IsGuest() {
			return nil, fmt.Errorf("capture: %s is a guest, and its loopback cannot be recorded from outside", name)
		}
		return []port{{machine: m, name: loopback}}, nil
	}
	name, wire, _ := strings.Cut(link, "/")
	outer, found := l.byName[name]
	i := -1
	if found {
		i = slices.IndexFunc(outer.Ends, func(e topo.End) bool { return e.Outer && (wire == "" || e.Interface == wire) })
	}
	if i < 0 {
		return nil, fmt.Errorf("capture: %q is not a node with a link of its own", link)
	}
	here, inner := outer.Ends[i], l.byName[outer.Ends[i].Peer]
	there, _ := inner.Toward(name)
	both := []port{{outer, here.Interface, here}, {inner, there.Interface, there}}
	return slices.DeleteFunc(both, func(p port) bool { return p.machine.IsGuest() }), nil
}

// link is a recorded link: the taps at its ends.
type link []tap

// tap is an *observe.Tap.
type tap interface {
	Mark() int
	Since(mark int) []observe.Packet
	Forget(mark int, gone func(observe.Packet) bool)
	Lost() uint64
	Stop() error
}

// tap opens a tap on one of the machine's interfaces.
func (m *machine) tap(name string) (tap, error) {
	var opened *observe.Tap
	err := m.space.Do(func() (err error) {
		opened, err = observe.OpenTap(m.Name, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return opened, nil
}

// Mark is a moment in the recordings of a lab. Its zero value is their beginning.
type Mark struct {
	passed map[tap]int
}

// Mark returns the current moment. [Lab.PacketsSince] leaves out the packets that each tap
// has recorded before it.
func (l *Lab) Mark() Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := Mark{passed: map[tap]int{}}
	for _, link := range l.taps {
		for _, t := range link {
			m.passed[t] = t.Mark()
		}
	}
	return m
}

// Packets lists what has been recorded so far, ordered by time. It is an error when the
// kernel had to leave packets out: a recording with holes proves nothing.
func (l *Lab) Packets() ([]observe.Packet, error) { return l.PacketsSince(Mark{}) }

// PacketsSince is Packets without the packets before the mark. Cutting off as many packets
// as an earlier list had is not the same: taps are read one after the other, so new packets
// may come in the middle of the list.
func (l *Lab) PacketsSince(m Mark) ([]observe.Packet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []observe.Packet
	for name, link := range l.taps {
		for _, t := range link {
			all = append(all, t.Since(m.passed[t])...)
			if lost := t.Lost(); lost > 0 {
				return nil, fmt.Errorf("packets of the link of %s: the kernel left out %d", name, lost)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b observe.Packet) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// Forget drops packets that were recorded since the mark, at all taps.
func (l *Lab) Forget(since Mark, gone func(observe.Packet) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, link := range l.taps {
		for _, t := range link {
			t.Forget(since.passed[t], gone)
		}
	}
}

// stopCaptures ends all recordings.
func (l *Lab) stopCaptures() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	taps := l.taps
	l.taps = nil
	return stop(taps)
}

// stop stops the taps of links, without those that were never opened.
func stop(links map[string]link) error {
	var stopping errgroup.Group
	for _, link := range links {
		for _, t := range link {
			if t != nil {
				stopping.Go(t.Stop)
			}
		}
	}
	return stopping.Wait()
}
