//go:build linux

package guest

import (
	"errors"
	"fmt"

	"twlab/harness/internal/vm"
)

// Conntrack is connection tracking of a guest, which has no rule that would want it. What a
// kernel has once for the whole machine can be set here, and by sysctls of the topology, which
// are written before any socket is opened: net.netfilter.nf_conntrack_max, a namespace of the
// running kernel can only read (nf_conntrack_standalone_init_sysctl).
type Conntrack struct {
	// Always tracks every packet, from the first one on (parameter enable_hooks of the module
	// nf_conntrack).
	Always bool
	// Buckets is the size of the hash table (parameter hashsize), which the kernel rounds up to
	// whole pages, 512 buckets (nf_ct_alloc_hashtable); 0 leaves it to the kernel. Without
	// another value, net.netfilter.nf_conntrack_max follows it.
	Buckets int
}

// validate returns what is wrong with the settings.
func (c Conntrack) validate() error {
	const most = 1 << 24
	switch {
	case c.Buckets < 0 || c.Buckets > most:
		return fmt.Errorf("conntrack: %d buckets: want 1 to %d, or 0 for the kernel's own number", c.Buckets, most)
	case c.Buckets > 0 && !c.Always:
		return errors.New("conntrack: buckets for connections that are not tracked: set Always")
	}
	return nil
}

// modules lists the modules that tracking takes, and their parameters.
func (c Conntrack) modules(available vm.Modules) (names []string, parameters map[string]string, err error) {
	const module, hooks = "nf_conntrack", "enable_hooks"
	if !c.Always {
		return nil, nil, nil
	}
	if err := available.CheckParameter(module, hooks); err != nil {
		return nil, nil, fmt.Errorf("track connections: %w", err)
	}
	values := hooks + "=1"
	if c.Buckets > 0 {
		values += fmt.Sprintf(" hashsize=%d", c.Buckets)
	}
	return []string{module, "nf_conntrack_netlink"}, map[string]string{module: values}, nil
}
