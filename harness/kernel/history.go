package kernel

import "slices"

// Sysctl is the history of a sysctl in the mainline releases, taken from
// net/ipv4/sysctl_net_ipv4.c and similar files of these releases.
type Sysctl struct {
	Name string // dotted, such as "net.ipv4.tcp_tw_recycle"
	// Introduced is the first release that has it; zero means older than Linux 2.6.32.
	Introduced Release
	// Namespaced is the first release that has one value per network namespace; zero means
	// none so far.
	Namespaced Release
	// Removed is the first release without it; zero means that it still exists.
	Removed Release
	// Shown is the feature which means that each namespace shows the sysctl, for sysctls
	// that rules depend on; see [Features].
	Shown  Feature
	Source string
	// Takes are the numbers that the kernel takes; it refuses others with EINVAL. Releases
	// that no entry has are not known.
	Takes []Numbers
	// Pair means that the value is two numbers, of which the second must not be the
	// smaller one.
	Pair bool
	// Defaults are the values of a new network namespace. Releases that no entry has are
	// not known, or the value depends on the machine.
	Defaults []Default
}

// Numbers are those from Least to Most, on the releases of a span.
type Numbers struct {
	In          Span
	Least, Most int
}

// Default is a sysctl's value in a new network namespace, on the releases of a span.
type Default struct {
	In    Span
	Value string
}

// NumbersIn returns the numbers that a release takes.
func (s Sysctl) NumbersIn(r Release) (n Numbers, known bool) {
	i := slices.IndexFunc(s.Takes, func(n Numbers) bool { return n.In.Has(r) })
	if i < 0 {
		return Numbers{}, false
	}
	return s.Takes[i], true
}

// DefaultIn returns the default in a release.
func (s Sysctl) DefaultIn(r Release) (value string, known bool) {
	i := slices.IndexFunc(s.Defaults, func(d Default) bool { return d.In.Has(r) })
	if i < 0 {
		return "", false
	}
	return s.Defaults[i].Value, true
}

const tcpTable = "net/ipv4/sysctl_net_ipv4.c, tcp_sk_init"

// SysctlNamed finds a sysctl of [Sysctls].
func SysctlNamed(name string) (s Sysctl, known bool) {
	all := Sysctls()
	i := slices.IndexFunc(all, func(s Sysctl) bool { return s.Name == name })
	if i < 0 {
		return Sysctl{}, false
	}
	return all[i], true
}

// shownIn returns the releases that show the sysctl in every network namespace. Before
// Linux 3.5 all namespaces showed the machine's single value.
func (s Sysctl) shownIn() []Span {
	var spans []Span
	if s.Introduced == (Release{}) {
		spans = append(spans, Span{Until: Mainline(3, 5)})
	}
	return append(spans, Span{From: s.Namespaced, Until: s.Removed})
}

// Mainline returns a mainline release.
func Mainline(major, minor int) Release { return Release{Major: major, Minor: minor} }
