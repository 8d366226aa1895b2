//go:build linux

package nginx

import (
	"context"
	"fmt"

	"twlab/harness/topo"
)

// Balancer is nginx, with its stream module, as the balancer of a lab.
type Balancer struct {
	// Lines are those of [Config].
	Lines []string
}

var _ topo.Program = Balancer{}

// Name returns "nginx".
func (b Balancer) Name() string { return "nginx" }

// Validate returns nil: only nginx itself can check the lines.
func (b Balancer) Validate(topo.Place) error { return nil }

// Start starts nginx at this place.
func (b Balancer) Start(ctx context.Context, inside func(func() error) error, at topo.Place) (topo.Running, error) {
	n, err := Start(ctx, inside, b.there(at))
	if err != nil {
		return nil, err
	}
	return &running{Nginx: n, at: at}, nil
}

func (b Balancer) there(at topo.Place) Config {
	return Config{Bind: at.At, Servers: at.Servers, Lines: b.Lines}
}

// running is nginx as the balancer at a place.
type running struct {
	*Nginx
	at topo.Place
}

var (
	_ topo.Running    = (*running)(nil)
	_ topo.Stoppable  = (*running)(nil)
	_ topo.Reloadable = (*running)(nil)
)

// Reload makes nginx use the configuration of another Balancer at the same place.
func (r *running) Reload(ctx context.Context, to topo.Program) error {
	if to == nil {
		r.mu.Lock()
		same := r.config
		r.mu.Unlock()
		return r.Nginx.Reload(ctx, same)
	}
	b, same := to.(Balancer)
	if !same {
		return fmt.Errorf("reload nginx: its configuration cannot be one of %s", to.Name())
	}
	return r.Nginx.Reload(ctx, b.there(r.at))
}
