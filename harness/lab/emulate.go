package lab

import (
	"errors"
	"fmt"

	"twlab/harness/recycle"
)

// EmulateRecycle has a node behave, from now until the lab closes, as if its kernel
// had tcp_tw_recycle and it were 1. The node must run the running kernel. See
// [recycle.Start] for what it needs, and [recycle] for what it is worth.
func (l *Lab) EmulateRecycle(name string, c recycle.Config) (*recycle.Emulation, error) {
	m, found := l.byName[name]
	switch {
	case !found:
		return nil, fmt.Errorf("no node %q in this lab", name)
	case m.apart():
		return nil, fmt.Errorf("%s: no emulation on a node with a kernel of its own", name)
	}
	e, err := recycle.Start(m.space.Do, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emulations = append(l.emulations, e)
	return e, nil
}

func (l *Lab) stopEmulations() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, e := range l.emulations {
		errs = append(errs, e.Close())
	}
	l.emulations = nil
	return errors.Join(errs...)
}
