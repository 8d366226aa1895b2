//go:build linux

package reason

import (
	"errors"

	"twlab/harness/lab"
)

// Attach watches all nodes of a lab until the lab closes. Guests have kernels of their own, of
// which nothing is seen: they are named by unseen. See [Start].
func Attach(l *lab.Lab) (w *Watch, unseen []string, err error) {
	nodes := map[string]func(func() error) error{}
	for _, role := range []lab.Role{lab.Client, lab.Gateway, lab.Balancer, lab.Server, ""} {
		for _, n := range l.Nodes(role) {
			name := n.Identity().Name
			inside, err := l.Inside(name)
			switch {
			case errors.Is(err, lab.ErrGuest):
				unseen = append(unseen, name)
			case err != nil:
				return nil, nil, err
			default:
				nodes[name] = inside
			}
		}
	}
	if w, err = Start(nodes); err != nil {
		return nil, nil, err
	}
	l.CloseWith(w)
	return w, unseen, nil
}
