//go:build linux

package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// linkNames are the names of links by index.
type linkNames map[int]string

func (n linkNames) of(index int) string {
	if name, ok := n[index]; ok {
		return name
	}
	return fmt.Sprintf("#%d", index) // it appeared or disappeared between two lists
}

// linkFlags are the flags that an administrator sets; the others report the state of the
// link (IFF_RUNNING, IFF_LOWER_UP).
var linkFlags = []struct {
	bit  uint32
	name string
}{
	{unix.IFF_UP, "up"},
	{unix.IFF_NOARP, "noarp"},
	{unix.IFF_PROMISC, "promisc"},
	{unix.IFF_ALLMULTI, "allmulti"},
	{unix.IFF_MULTICAST, "multicast"},
}

func (s *Snapshot) addLinks() (linkNames, error) {
	links, err := listed("links", netlink.LinkList)
	if err != nil {
		return nil, err
	}
	names := make(linkNames, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		words := []string{"link", a.Name, "index", fmt.Sprint(a.Index), "type", l.Type(), "mtu", fmt.Sprint(a.MTU)}
		if len(a.HardwareAddr) > 0 {
			words = append(words, "address", a.HardwareAddr.String())
		}
		for _, f := range linkFlags {
			if a.RawFlags&f.bit != 0 {
				words = append(words, f.name)
			}
		}
		if a.MasterIndex != 0 {
			words = append(words, "master", names.of(a.MasterIndex))
		}
		s.add(words...)
	}
	return names, nil
}

func (s *Snapshot) addAddresses(names linkNames) error {
	addresses, err := listed("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.IP.To4() == nil && a.Flags&unix.IFA_F_TEMPORARY != 0 {
			continue // the kernel makes a new one every day (RFC 8981); for IPv4 the same bit means secondary
		}
		words := []string{"address", a.IPNet.String(), "dev", names.of(a.LinkIndex), "scope", netlink.Scope(a.Scope).String()}
		if a.Peer != nil && a.Peer.String() != a.IPNet.String() {
			words = append(words, "peer", a.Peer.String())
		}
		s.add(words...)
	}
	return nil
}

func (s *Snapshot) addRoutes(names linkNames) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := listed("routes", func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		for i := range routes {
			s.add(routeWords(&routes[i], names)...)
		}
	}
	return nil
}

func routeWords(r *netlink.Route, names linkNames) []string {
	target := "default"
	if r.Dst != nil {
		target = r.Dst.String()
	}
	words := []string{"route", target, "table", fmt.Sprint(r.Table), "type", fmt.Sprint(r.Type),
		"protocol", fmt.Sprint(int(r.Protocol)), "scope", r.Scope.String()}
	if len(r.MultiPath) == 0 {
		words = append(words, hop(names, r.LinkIndex, r.Gw, r.Via, r.Encap)...)
	}
	for _, h := range r.MultiPath {
		words = append(words, "nexthop", "weight", fmt.Sprint(h.Hops+1))
		words = append(words, hop(names, h.LinkIndex, h.Gw, h.Via, h.Encap)...)
	}
	if r.Src != nil {
		words = append(words, "src", r.Src.String())
	}
	// The other flags report the state of the link (RTNH_F_LINKDOWN).
	if r.Flags&unix.RTNH_F_ONLINK != 0 {
		words = append(words, "onlink")
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"metric", r.Priority}, {"tos", r.Tos}, {"realm", r.Realm}, {"mtu", r.MTU}, {"window", r.Window}, {"rtt", r.Rtt},
		{"rttvar", r.RttVar}, {"ssthresh", r.Ssthresh}, {"cwnd", r.Cwnd}, {"advmss", r.AdvMSS}, {"reordering", r.Reordering},
		{"hoplimit", r.Hoplimit}, {"initcwnd", r.InitCwnd}, {"features", r.Features}, {"rto_min", r.RtoMin},
		{"initrwnd", r.InitRwnd}, {"quickack", r.QuickACK}, {"fastopen_no_cookie", r.FastOpenNoCookie},
	} {
		if n.value != 0 {
			words = append(words, n.name, fmt.Sprint(n.value))
		}
	}
	if r.Congctl != "" {
		words = append(words, "congctl", r.Congctl)
	}
	return words
}

func hop(names linkNames, link int, gateway fmt.Stringer, via netlink.Destination, encap netlink.Encap) []string {
	var words []string
	if g := gateway.String(); g != "<nil>" {
		words = append(words, "via", g)
	}
	if via != nil {
		words = append(words, "via", via.String())
	}
	if encap != nil {
		words = append(words, "encap", encap.String())
	}
	if link != 0 {
		words = append(words, "dev", names.of(link))
	}
	return words
}

func (s *Snapshot) addRules() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := listed("rules", func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if err != nil {
			return err
		}
		for i := range rules {
			s.add(ruleWords(&rules[i])...)
		}
	}
	return nil
}

func ruleWords(r *netlink.Rule) []string {
	family := "inet"
	if r.Family == netlink.FAMILY_V6 {
		family = "inet6"
	}
	words := []string{"rule", family, fmt.Sprint(r.Priority)}
	if r.Invert {
		words = append(words, "not")
	}
	if r.Src != nil {
		words = append(words, "from", r.Src.String())
	}
	if r.Dst != nil {
		words = append(words, "to", r.Dst.String())
	}
	if r.IifName != "" {
		words = append(words, "iif", r.IifName)
	}
	if r.OifName != "" {
		words = append(words, "oif", r.OifName)
	}
	if r.Mark != 0 || r.Mask != nil {
		mask := uint32(0xffffffff)
		if r.Mask != nil {
			mask = *r.Mask
		}
		words = append(words, "fwmark", fmt.Sprintf("%#x/%#x", r.Mark, mask))
	}
	if r.Sport != nil {
		words = append(words, "sport", fmt.Sprintf("%d-%d", r.Sport.Start, r.Sport.End))
	}
	if r.Dport != nil {
		words = append(words, "dport", fmt.Sprintf("%d-%d", r.Dport.Start, r.Dport.End))
	}
	if r.UIDRange != nil {
		words = append(words, "uidrange", fmt.Sprintf("%d-%d", r.UIDRange.Start, r.UIDRange.End))
	}
	for _, n := range []struct {
		name         string
		value, unset int
	}{
		{"tos", int(r.Tos), 0}, {"ipproto", r.IPProto, 0}, {"tun_id", int(r.TunID), 0}, {"goto", r.Goto, -1}, {"realm", r.Flow, -1},
		{"suppress_prefixlength", r.SuppressPrefixlen, -1}, {"suppress_ifgroup", r.SuppressIfgroup, -1}, {"table", r.Table, 0},
	} {
		if n.value != n.unset {
			words = append(words, n.name, fmt.Sprint(n.value))
		}
	}
	return words
}

// moving lists the files below /proc/sys/net that are left out, by a pattern of
// [path.Match], because they change although nothing sets them.
var moving = []string{
	"netfilter/nf_conntrack_count",          // connections tracked now
	"ipv4/netfilter/ip_conntrack_count",     // the same before Linux 4.13
	"ipv4/tcp_available_congestion_control", // grows when a module is loaded
	"ipv4/tcp_available_ulp",                // so too
	"mptcp/available_schedulers",            // so too
	"sunrpc/transports",                     // so too
	"ipv4/tcp_fastopen_key",                 // generated for the first listener that needs it; also a secret
	"core/netdev_rss_key",                   // generated for the first device that needs it
	"ipv6/conf/*/stable_secret",             // generated for the first address that needs it; also a secret
}

func (s *Snapshot) addSysctls() error {
	// Not through os.ReadFile: a host with hundreds of links has tens of
	// thousands of files here, and its poller would cost three times as much.
	const root = "/proc/sys/net" // of the calling thread's namespace
	buffer := make([]byte, 1<<12)
	return filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // a link went away, and took its directory along
		}
		name := strings.TrimPrefix(file, root+"/")
		for _, pattern := range moving {
			if match, err := path.Match(pattern, name); match || err != nil {
				return err
			}
		}
		n, err := readSmall(file, buffer)
		if err != nil {
			return nil //nolint:nilerr // for other users' eyes, write-only, without a value yet, or gone
		}
		// A dot in a link's name is a slash in sysctl(8)'s notation.
		dotted := strings.NewReplacer("/", ".", ".", "/").Replace("net/" + name)
		s.add(sysctlPrefix+dotted, "=", strings.Join(strings.Fields(string(buffer[:n])), " "))
		return nil
	})
}

func readSmall(file string, buffer []byte) (n int, err error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	n, err = unix.Read(fd, buffer)
	return n, errors.Join(err, unix.Close(fd))
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

// addFirewall adds the rules as the tools print them, without counters and without the
// contents of sets, which packets change.
func (s *Snapshot) addFirewall(ctx context.Context) {
	s.addRuleset(ctx, "nft", "--stateless", "--terse", "list", "ruleset")
	s.addRuleset(ctx, "iptables-save")
	s.addRuleset(ctx, "ip6tables-save")
	// For systems where the two above are the nft variants. The files list the tables that
	// exist, and are missing until the kernel has the legacy code.
	for tool, tables := range map[string]string{
		"iptables-legacy-save":  "/proc/thread-self/net/ip_tables_names",
		"ip6tables-legacy-save": "/proc/thread-self/net/ip6_tables_names",
	} {
		if names, err := os.ReadFile(tables); err == nil && len(names) > 0 {
			s.addRuleset(ctx, tool)
		}
	}
}

// noise matches what the save commands print besides the rules: comments with the time of
// day, counters of chains, and built-in chains that were never changed, which a table has
// only if some tool looked at it before.
var noise = regexp.MustCompile(`^(#.*|COMMIT|:\S+ ACCEPT( .*)?)$| *\[\d+:\d+\]$`)

func (s *Snapshot) addRuleset(ctx context.Context, tool string, arguments ...string) {
	command := exec.CommandContext(ctx, tool, arguments...) // in the calling thread's namespace, as every child
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		s.add("firewall", tool+":", "not installed")
		return
	}
	if err != nil {
		message := strings.TrimSpace(stderr.String())
		if message == "" {
			message = err.Error()
		}
		s.add("firewall", tool+":", "cannot be read:", strings.Join(strings.Fields(message), " "))
		return
	}
	// The lines will be sorted, so each one carries the headings above it.
	var headings []string
	for line := range strings.Lines(string(output)) {
		line = noise.ReplaceAllString(strings.TrimSpace(line), "")
		switch {
		case line == "":
		case strings.HasPrefix(line, "*"): // iptables-save: *nat ... COMMIT
			headings = []string{line[1:] + ":"}
		case strings.HasSuffix(line, "{"): // nft: table ip nat { chain POSTROUTING { ... } }
			headings = append(headings, strings.TrimSpace(strings.TrimSuffix(line, "{"))+":")
			s.add("firewall", tool+":", strings.Join(headings, " "))
		case line == "}":
			headings = headings[:max(0, len(headings)-1)]
		default:
			s.add("firewall", tool+":", strings.Join(append(slices.Clone(headings), line), " "))
		}
	}
}
