//go:build linux

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

// Balancer is HAProxy as the balancer of a lab. The lab sets its address and its servers.
// Ports of its Source without an address belong to the balancer's own address towards the
// servers.
type Balancer struct{ Config }

var _ topo.Program = Balancer{}

// Name returns "haproxy".
func (b Balancer) Name() string { return programName }

// Validate returns what is wrong with the configuration at this place.
func (b Balancer) Validate(at topo.Place) error {
	if b.Bind.IsValid() || len(b.Servers) > 0 {
		return errors.New("HAProxy: Port, ServerPort and the topology's Servers set its address and its servers; leave Bind and Servers empty")
	}
	return b.there(at).Validate()
}

// Start starts HAProxy at this place.
func (b Balancer) Start(ctx context.Context, inside func(func() error) error, at topo.Place) (topo.Running, error) {
	h, err := Start(ctx, inside, b.there(at))
	if err != nil {
		return nil, err
	}
	return &running{HAProxy: h, at: at}, nil
}

// running is HAProxy as the balancer at a place.
type running struct {
	*HAProxy
	at topo.Place
}

var (
	_ topo.Running    = (*running)(nil)
	_ topo.Stoppable  = (*running)(nil)
	_ topo.Reloadable = (*running)(nil)
	_ topo.Pausable   = (*running)(nil)
)

// Reload makes HAProxy use the configuration of another Balancer at the same place.
func (r *running) Reload(ctx context.Context, to topo.Program) error {
	if to == nil {
		r.mu.Lock()
		same := r.config
		r.mu.Unlock()
		return r.HAProxy.Reload(ctx, same)
	}
	b, same := to.(Balancer)
	if !same {
		return fmt.Errorf("reload haproxy: its configuration cannot be one of %s", to.Name())
	}
	if err := b.Validate(r.at); err != nil {
		return err
	}
	return r.HAProxy.Reload(ctx, b.there(r.at))
}

// there returns the configuration at that place.
func (b Balancer) there(at topo.Place) Config {
	c := b.Config
	c.Bind, c.Servers = at.At, at.Servers
	if c.Source.First != 0 && !c.Source.Addr.IsValid() {
		c.Source.Addr = at.Own
	}
	return c
}

// Requirement describes that HAProxy must be installed.
func Requirement() kernel.Requirement {
	return kernel.Requirement{
		Name:     "HAProxy",
		Hint:     "run hack/bootstrap, which installs it; specs with a real HAProxy fail without",
		Optional: true,
		Probe: func(ctx context.Context) (kernel.Fact, string) {
			out, err := exec.CommandContext(ctx, programName, "-v").Output()
			if errors.Is(err, fs.ErrPermission) {
				return kernel.Unknown, err.Error()
			}
			if err != nil {
				return kernel.No, err.Error()
			}
			line, _, _ := strings.Cut(string(out), "\n")
			return kernel.Yes, line
		},
	}
}
