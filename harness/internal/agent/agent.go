//go:build linux

package agent

import (
	"context"
	"fmt"
	"sync/atomic"

	"twlab/harness/node"
)

// Agent is one guest, seen from inside. Its zero value is ready for [NewServer].
type Agent struct {
	node atomic.Pointer[node.Local] // nil until setUp
}

// setUp loads the modules of the initramfs, configures the links, and makes the node.
func (a *Agent) setUp(ctx context.Context, s Setup) error {
	if err := loadModules(s.Modules); err != nil {
		return fmt.Errorf("%s: %w", s.Node.Name, err)
	}
	if err := configure(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", s.Node.Name, err)
	}
	a.node.Store(node.NewOwned(s.Node, s.Owner, func(f func() error) error { return f() }))
	return nil
}
