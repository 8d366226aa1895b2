//go:build linux

package nginx

import (
	"context"

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
	n, err := Start(ctx, inside, Config{Bind: at.At, Servers: at.Servers, Lines: b.Lines})
	if err != nil {
		return nil, err
	}
	return n, nil
}
