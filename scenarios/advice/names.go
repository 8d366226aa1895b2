package advice

import (
	_ "embed"
	"maps"
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

const namesFrom = "names in /proc/sys/net of Linux 6.18, and older ones"

// names are those that are known here, and about most of which there is nothing to say.
func names() map[string]bool {
	all := map[string]bool{}
	for _, name := range strings.Fields(namesText) {
		all[name] = true
	}
	for _, s := range kernel.Sysctls() {
		all[s.Name] = true
	}
	return all
}

// lastNames are the last components of the names of a directory, or of all, sorted.
func lastNames(dir string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(names())) {
		if dir == "" || directory(name) == dir {
			all = append(all, last(name))
		}
	}
	return all
}

// judged are the directories whose names are known.
func judged() []string { return []string{"net.core", "net.ipv4", "net.netfilter"} }

func directory(name string) string { return name[:max(0, strings.LastIndexByte(name, '.'))] }

func last(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
