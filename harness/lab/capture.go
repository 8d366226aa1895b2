package lab

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"twlab/harness/observe"
)

// Capture records the TCP packets at both ends of some links, from now until
// the lab closes. A link is named by its outer node: "client0" is the link
// between client0 and the gateway, "client0/lo" the loopback of client0, where
// each packet is seen going out and coming in. A link that is recorded already
// goes on as it is. An end at a node with a kernel of its own is not recorded: the
// clocks of two kernels are not in step. See [Lab.Path].
func (l *Lab) Capture(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taps == nil {
		l.taps = map[string]*link{}
	}
	// The kernel makes each tap wait until no packet is under way
	// (synchronize_net), so the waits overlap.
	var opening errgroup.Group
	for _, name := range names {
		if _, recorded := l.taps[name]; recorded {
			continue
		}
		ends, err := l.ends(name)
		if err != nil {
			opening.Go(func() error { return err })
			continue
		}
		k := &link{ends: make([]*observe.Tap, len(ends))}
		l.taps[name] = k
		for i, e := range ends {
			opening.Go(func() (err error) {
				k.ends[i], err = e.machine.tap(e.name)
				return err
			})
		}
	}
	return opening.Wait()
}

// port is where a tap goes: an interface of a machine.
type port struct {
	machine *machine
	name    string
}

// ends finds the interfaces of a link. A loopback has only one.
func (l *Lab) ends(link string) ([]port, error) {
	const loopback = "lo"
	if name, own := strings.CutSuffix(link, "/"+loopback); own {
		m, found := l.byName[name]
		if !found {
			return nil, fmt.Errorf("capture: no node %q in this lab", name)
		}
		if m.apart() {
			return nil, fmt.Errorf("capture: %s has a kernel of its own, and nobody else sees its loopback", name)
		}
		return []port{{m, loopback}}, nil
	}
	outer, found := l.byName[link]
	if !found || outer.inner == "" {
		return nil, fmt.Errorf("capture: %q is no node with a link of its own", link)
	}
	both := []port{{outer, outerLink}, {l.byName[outer.inner], link}}
	return slices.DeleteFunc(both, func(p port) bool { return p.machine.apart() }), nil
}

// link is a link that is recorded at its ends. An end that could not be opened
// is nil; the lab closes the other one.
type link struct{ ends []*observe.Tap }

func (k link) taps() []*observe.Tap {
	return slices.DeleteFunc(slices.Clone(k.ends), func(t *observe.Tap) bool { return t == nil })
}

// tap opens a tap on one of the machine's interfaces.
func (m *machine) tap(name string) (tap *observe.Tap, err error) {
	err = m.space.Do(func() (err error) {
		tap, err = observe.OpenTap(m.Name, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return tap, nil
}

// Packets lists what has been recorded so far, in the order of time. When the
// kernel had to leave packets out, that is an error: a recording with holes
// proves nothing.
func (l *Lab) Packets() ([]observe.Packet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []observe.Packet
	for name, link := range l.taps {
		for _, tap := range link.taps() {
			all = append(all, tap.Since(0)...)
			if lost := tap.Lost(); lost > 0 {
				return nil, fmt.Errorf("packets of the link of %s: the kernel left out %d", name, lost)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b observe.Packet) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// stopCaptures ends all recordings.
func (l *Lab) stopCaptures() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var stopping errgroup.Group
	for _, link := range l.taps {
		for _, tap := range link.taps() {
			stopping.Go(tap.Stop)
		}
	}
	l.taps = nil
	return stopping.Wait()
}
