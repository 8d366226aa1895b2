package lab

import (
	"errors"
	"fmt"
	"slices"

	"twlab/harness/observe"
)

// Capture records the TCP packets at both ends of some links, from now until
// the lab closes. A link is named by its outer node: "client0" is the link
// between client0 and the gateway. A link that is recorded already goes on as
// it is.
func (l *Lab) Capture(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if _, recorded := l.taps[name]; recorded {
			continue
		}
		ends, err := l.tap(name)
		if err != nil {
			return fmt.Errorf("capture on the link of %s: %w", name, err)
		}
		if l.taps == nil {
			l.taps = map[string][]*observe.Tap{}
		}
		l.taps[name] = ends
	}
	return nil
}

// tap opens both ends of a link.
func (l *Lab) tap(name string) ([]*observe.Tap, error) {
	outer, found := l.byName[name]
	if !found || outer.inner == "" {
		return nil, errors.New("no such node, or a node without a link of its own")
	}
	var ends []*observe.Tap
	for _, end := range []struct {
		at   *machine
		link string
	}{{outer, outerLink}, {l.byName[outer.inner], name}} {
		err := end.at.space.Do(func() error {
			tap, err := observe.OpenTap(end.at.Name, end.link)
			if err != nil {
				return err
			}
			ends = append(ends, tap)
			return nil
		})
		if err != nil {
			return nil, errors.Join(err, stopAll(ends))
		}
	}
	return ends, nil
}

// Packets lists what has been recorded so far, in the order of time. When the
// kernel had to leave packets out, that is an error: a recording with holes
// proves nothing.
func (l *Lab) Packets() ([]observe.Packet, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []observe.Packet
	for name, ends := range l.taps {
		for _, tap := range ends {
			all = append(all, tap.Since(0)...)
			if lost := tap.Lost(); lost > 0 {
				return nil, fmt.Errorf("packets of the link of %s: the kernel left out %d", name, lost)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b observe.Packet) int { return a.Time.Compare(b.Time) })
	return all, nil
}

func stopAll(taps []*observe.Tap) error {
	var errs []error
	for _, t := range taps {
		errs = append(errs, t.Stop())
	}
	return errors.Join(errs...)
}
