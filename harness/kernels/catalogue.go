//go:build linux

package kernels

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"twlab/harness/kernel"
)

// Errors of a search for a kernel. A returned error wraps one of them and says what to do.
var (
	// ErrUnknown: the name is neither in the catalogue nor in the cache.
	ErrUnknown = errors.New("no such kernel")
	// ErrNotFetched: the catalogue has the name, the cache does not.
	ErrNotFetched = errors.New("not fetched yet")
)

// Entry is one kernel of the catalogue: a distribution's package, under a name that stays
// the same when the package gets a new version.
type Entry struct {
	// Name is the name in roles and tools, such as "debian-6.1".
	Name string
	// Series is the required mainline version, such as "6.1"; empty means the one that the
	// suite has.
	Series string
	// Suite is Debian's name of the release that contains the package.
	Suite string
	// Package is a package that depends on the package of the current version. ARCH stands
	// for the architecture.
	Package string
	// Archived suites are no longer on ordinary mirrors.
	Archived bool
	// Purpose says in a few words what this kernel shows and its neighbours do not.
	Purpose string
}

// Cloud kernels where they exist: the same code with a third of the modules.
const (
	cloudPackage = "linux-image-cloud-ARCH"
	stockPackage = "linux-image-ARCH"
)

// Catalogue lists the kernels that have a name, oldest first.
func Catalogue() []Entry {
	return []Entry{
		{
			Name: "debian-3.2", Series: "3.2", Suite: "wheezy", Package: stockPackage, Archived: true,
			Purpose: "tcp_tw_recycle; the oldest that Go programs run on",
		},
		{
			Name: "debian-3.16", Series: "3.16", Suite: "jessie", Package: stockPackage, Archived: true,
			Purpose: "tcp_tw_recycle, before per-host checks changed in 3.17",
		},
		{
			Name: "debian-4.9", Series: "4.9", Suite: "stretch", Package: stockPackage, Archived: true,
			Purpose: "tcp_tw_recycle; one timestamp clock for all peers",
		},
		{
			Name: "debian-4.19", Series: "4.19", Suite: "buster", Package: cloudPackage, Archived: true,
			Purpose: "tcp_tw_reuse=2 is new; TCP sysctls are per namespace",
		},
		{
			Name: "debian-5.10", Series: "5.10", Suite: "bullseye", Package: cloudPackage,
			Purpose: "reuse by whole seconds; conntrack scans 128 ports",
		},
		{
			Name: "debian-6.1", Series: "6.1", Suite: "bookworm", Package: cloudPackage,
			Purpose: "the last before NAT evicts closing entries (6.5)",
		},
		{
			Name: "debian-6.12", Series: "6.12", Suite: "trixie", Package: cloudPackage,
			Purpose: "NAT evicts closing entries; no tcp_tw_reuse_delay yet (6.14)",
		},
		{
			Name: "debian-newest", Suite: "sid", Package: cloudPackage,
			Purpose: "what is coming",
		},
	}
}

// Lookup finds a name in the catalogue.
func Lookup(name string) (Entry, bool) {
	all := Catalogue()
	at := slices.IndexFunc(all, func(e Entry) bool { return e.Name == name })
	if at < 0 {
		return Entry{}, false
	}
	return all[at], true
}

// Names returns the names in the catalogue, oldest kernel first.
func Names() []string {
	var names []string
	for _, e := range Catalogue() {
		names = append(names, e.Name)
	}
	return names
}

// accepts returns an error when a release does not match this entry.
func (e Entry) accepts(release string) error {
	if e.Series == "" {
		return nil
	}
	r, err := kernel.ParseRelease(release)
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%d.%d", r.Major, r.Minor); got != e.Series {
		return fmt.Errorf("%s is a Linux %s, and this is %s: give it a name of its own", e.Name, e.Series, release)
	}
	return nil
}

// packageFor returns the name of the package for an architecture, in Debian's terms.
func (e Entry) packageFor(architecture string) string {
	return strings.ReplaceAll(e.Package, "ARCH", architecture)
}

// Architecture returns Debian's name of the architecture that this program runs on.
func Architecture() (string, error) {
	switch runtime.GOARCH {
	case "amd64", "arm64": // Debian calls them the same
		return runtime.GOARCH, nil
	default:
		return "", fmt.Errorf("no kernels for %s: only amd64 and arm64 are supported", runtime.GOARCH)
	}
}

// A name is a directory in the cache, and is used in lists separated by commas.
var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)

func checkName(name string) error {
	if nameSyntax.MatchString(name) {
		return nil
	}
	return fmt.Errorf("kernel name %q: want letters, digits and . _ + ~ -, a letter or digit first", name)
}
