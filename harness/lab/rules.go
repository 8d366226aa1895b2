//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
)

// AddRules adds iptables rules to the running lab, as if the topology had them. They apply
// from the next packet on. When one of them cannot be added, none is: rules already added,
// on this or other nodes, are removed.
func (l *Lab) AddRules(rules ...Rule) error {
	roles := map[string]Role{}
	for _, m := range l.machines {
		roles[m.Name] = m.Role
	}
	for _, r := range rules {
		if err := r.Validate(l.ip, roles); err != nil {
			return fmt.Errorf("add rules: %w", err)
		}
	}
	for _, m := range l.machines {
		if m.IsGuest() && len(of(rules, m.Identity)) > 0 {
			return fmt.Errorf("%s: no iptables rules on a guest", m.Name)
		}
	}
	wall := firewall{}
	if len(rules) > 0 {
		var err error
		if wall, err = newFirewall(l.ip); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	appended := make([][]Rule, len(l.machines))
	for i, m := range l.machines {
		its := of(rules, m.Identity)
		if len(its) == 0 {
			continue
		}
		err := m.space.Do(func() (err error) {
			appended[i], err = wall.apply(its)
			return err
		})
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", m.Name, err), l.undo(wall, appended))
		}
	}
	l.added = append(l.added, rules...)
	return nil
}

// undo removes the rules that each machine already got.
func (l *Lab) undo(wall firewall, appended [][]Rule) error {
	var errs []error
	for i, m := range l.machines {
		if len(appended[i]) == 0 {
			continue
		}
		if err := m.space.Do(func() error { return wall.undo(appended[i]) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}

// RemoveRules removes rules that AddRules has added. They do not apply from the next packet
// on. When one of them was not added, the error names it, and none is removed. Of two equal
// rules in a chain the first one goes, as with iptables -D.
func (l *Lab) RemoveRules(rules ...Rule) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := slices.Clone(l.added)
	for _, r := range rules {
		i := slices.Index(left, r)
		if i < 0 {
			return fmt.Errorf("remove rules: no rule %q of chain %q in table %q was added", r.Spec, r.Chain, r.Table)
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(rules) == 0 {
		return nil
	}
	wall, err := newFirewall(l.ip)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range l.machines {
		its := of(rules, m.Identity)
		if len(its) == 0 {
			continue
		}
		if err := m.space.Do(func() error { return wall.remove(its) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	l.added = left
	return errors.Join(errs...)
}
