package advice

import (
	_ "embed"
	"slices"
	"strings"

	"twlab/harness/kernel"
)

// namesText has the sysctls of Linux 6.18 directly below net/core, net/ipv4 and
// net/netfilter, those that older kernels had, and those that other ways to build a kernel
// bring in.
//
//go:embed names.txt
var namesText string

const namesFrom = "/proc/sys/net of Linux 3.16, 4.4 and 6.18"

// names are those that are known here, and about most of which there is nothing to say.
func names() []string {
	all := strings.Fields(namesText)
	for _, s := range kernel.Sysctls() {
		all = append(all, s.Name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func isKnown(name string) bool { return slices.Contains(names(), name) }

// lastNames are the last components of the names.
func lastNames() (all []string) {
	for _, name := range names() {
		all = append(all, last(name))
	}
	return all
}

// judged are the directories whose names are known.
func judged() []string { return []string{"net.core", "net.ipv4", "net.netfilter"} }

func directory(name string) string { return name[:max(0, strings.LastIndexByte(name, '.'))] }

func last(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
