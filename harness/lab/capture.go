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
// goes on as it is.
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
		k := &link{}
		if own, isLoopback := strings.CutSuffix(name, "/"+loopback); isLoopback && l.byName[own] != nil {
			l.taps[name] = k
			opening.Go(func() (err error) {
				k.outer, err = l.byName[own].tap(loopback)
				return err
			})
			continue
		}
		outer, found := l.byName[name]
		if !found || outer.inner == "" {
			opening.Go(func() error { return fmt.Errorf("capture: %q is no node with a link of its own", name) })
			continue
		}
		l.taps[name] = k
		opening.Go(func() (err error) {
			k.outer, err = outer.tap(outerLink)
			return err
		})
		opening.Go(func() (err error) {
			k.inner, err = l.byName[outer.inner].tap(name)
			return err
		})
	}
	return opening.Wait()
}

// loopback is the name of every node's own interface to itself.
const loopback = "lo"

// link is a link that is recorded at both ends. An end that could not be opened
// is nil; the lab closes the other one. A loopback has no inner end.
type link struct{ outer, inner *observe.Tap }

func (k link) taps() []*observe.Tap {
	return slices.DeleteFunc([]*observe.Tap{k.outer, k.inner}, func(t *observe.Tap) bool { return t == nil })
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
