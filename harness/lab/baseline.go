//go:build linux

package lab

import (
	"errors"
	"fmt"

	"twlab/harness/kernel"
	"twlab/harness/ns"
)

// differences returns those settings that a new namespace does not have by itself. All new namespaces are alike, so one of them shows these, and Build writes
// only these: opening a file below /proc/sys/net costs time in proportion to the number of
// namespaces, because the entries of one name in all of them share a hash chain
// (proc_sys_compare).
func differences(settings []Setting) (different []Setting, err error) {
	fresh, err := ns.New()
	if err != nil {
		return nil, fmt.Errorf("look at a new namespace: %w", err)
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	err = fresh.Do(func() error {
		for _, s := range settings {
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
