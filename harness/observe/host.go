//go:build linux

package observe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Snapshot is the configuration of a network namespace as sorted lines of text: links,
// addresses, routes, rules, firewall and sysctls, and the names in /run/netns. It contains
// settings and leaves out values that change by themselves, so two snapshots are equal
// unless something was reconfigured in between.
type Snapshot []string

// SnapshotHost describes the calling thread's network namespace. It needs no privilege,
// except that only CAP_NET_ADMIN can read the firewall; without it a line says so. It takes
// some tens of milliseconds.
//
// It changes nothing in the namespace: of the firewall tools it uses only those that only
// read. (iptables-legacy -S, for example, creates the table that it lists, and with it
// connection tracking.)
func SnapshotHost(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	names, err := s.addLinks()
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if err := errors.Join(s.addAddresses(names), s.addRoutes(names), s.addRules(), s.addSysctls(), s.addNamedNamespaces()); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s.addFirewall(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("snapshot: %w", context.Cause(ctx))
	}
	slices.Sort(s)
	return s, nil
}

// Diff returns the changes from one snapshot to the other: removed lines after "- ", new
// lines after "+ ", and nothing when the snapshots are equal.
//
// A sysctl that only one of them has is no difference. Only the kernel creates and deletes
// sysctls: for a link (which has a line of its own) or for a module. A module is loaded for
// the whole machine when anything first uses it, as nf_conntrack is by the first MASQUERADE
// rule in a sandbox.
func Diff(before, after Snapshot) []string {
	var lines []string
	for _, side := range []struct {
		sign        string
		have, other Snapshot
	}{{"- ", before, after}, {"+ ", after, before}} {
		other := make(map[string]int, len(side.other))
		for _, line := range side.other {
			other[line]++
			other[sysctlKey(line)]++
		}
		for _, line := range side.have {
			if other[line] > 0 {
				other[line]--
				continue
			}
			if key := sysctlKey(line); key != "" && other[key] == 0 {
				continue
			}
			lines = append(lines, side.sign+line)
		}
	}
	// Sorted by subject, so that the old value is above the new one.
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(subject(a[2:]), subject(b[2:])) })
	return lines
}

// sysctlPrefix begins a line "sysctl net.ipv4.ip_forward = 1".
const sysctlPrefix = "sysctl "

// sysctlKey returns such a line without its value, and "" for any other line.
func sysctlKey(line string) string {
	if !strings.HasPrefix(line, sysctlPrefix) {
		return ""
	}
	key, _, _ := strings.Cut(line, "=")
	return key
}

// subject returns what a line is about, without the value.
func subject(line string) string {
	if key := sysctlKey(line); key != "" {
		return key
	}
	words := strings.Fields(line)
	return strings.Join(words[:min(2, len(words))], " ")
}

func (s *Snapshot) add(words ...string) {
	*s = append(*s, strings.Join(words, " "))
}

// listed gets a list as dump does; its error names what could not be listed.
func listed[T any](what string, list func() ([]T, error)) ([]T, error) {
	all, err := dump(list)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return all, nil
}

// addNamedNamespaces lists the namespaces of "ip netns"; the directory does not exist until
// its first use.
func (s *Snapshot) addNamedNamespaces() error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("list named namespaces: %w", err)
	}
	for _, e := range entries {
		s.add("namespace", e.Name())
	}
	return nil
}
