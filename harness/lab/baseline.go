//go:build linux

package lab

import (
	"errors"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/topo"
)

// baselineDifferences is the part of Baseline that a new namespace does not have
// by itself. All new namespaces start alike, so one of them tells, and Build
// writes only these: to open a file below /proc/sys/net costs time in proportion
// to the number of namespaces, because their entries of one name share a hash
// chain (proc_sys_compare).
func baselineDifferences() (different []Setting, err error) {
	fresh, err := ns.New()
	if err != nil {
		return nil, fmt.Errorf("look at a new namespace: %w", err)
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	err = fresh.Do(func() error {
		for _, s := range topo.Baseline {
			value, err := kernel.ReadSysctl(s.Name)
			if absent(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at a new namespace: %w", err)
			}
			if value != s.Value {
				different = append(different, s)
			}
		}
		return nil
	})
	return different, err
}
