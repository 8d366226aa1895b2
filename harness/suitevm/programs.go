//go:build linux

package suitevm

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"twlab/harness/kernel"
)

// programs collects files for a machine, each at the same path as here, with the shared
// libraries that they need.
type programs struct {
	records []cpio.Record
	seen    map[string]bool
}

// libraryDirs are the default directories of the dynamic linker, on Debian and on Fedora.
func libraryDirs() []string {
	return []string{
		"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
		"/lib64", "/usr/lib64", "/lib", "/usr/lib",
	}
}

// add collects a file, also through links, under the name at.
func (p *programs) add(at, path string) error {
	if p.seen[at] {
		return nil
	}
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	p.seen[at] = true
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p.records = append(p.records, cpio.StaticFile(strings.TrimPrefix(at, "/"), string(content), 0o755))
	if err := p.addLibraries(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// addLibraries collects the libraries of an ELF file; other files need none.
func (p *programs) addLibraries(path string) error {
	file, err := elf.Open(path)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) { // EOF: shorter than the ELF header
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	names, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range names {
		library, err := findLibrary(name)
		if err != nil {
			return err
		}
		if err := p.add(library, library); err != nil {
			return err
		}
	}
	if section := file.Section(".interp"); section != nil {
		interpreter, err := section.Data()
		if err != nil {
			return err
		}
		linker := strings.TrimRight(string(interpreter), "\x00")
		return p.add(linker, linker)
	}
	return nil
}

func findLibrary(name string) (string, error) {
	for _, dir := range libraryDirs() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("no library %s in %s", name, strings.Join(libraryDirs(), ", "))
}

// iptablesNames are the programs that labs and observations call.
func iptablesNames() []string {
	return []string{
		"iptables", "iptables-save", "iptables-restore", "iptables-legacy-save", "iptables-nft-save",
		"ip6tables", "ip6tables-save", "ip6tables-restore", "ip6tables-legacy-save", "ip6tables-nft-save",
	}
}

// iptablesFor returns the program here that the machine gets under this name.
//
// Most systems use the iptables that writes nf_tables, which is not suitable for NAT on old
// kernels. Before Linux 4.18 ("netfilter: nf_nat: add nat type hooks to nat core") a chain
// translates only the packets that pass it, so the replies of a connection that POSTROUTING
// has translated are not translated back. Also, any other NAT chain decides first, such as
// that of iptable_nat, which every namespace has before 4.7 ("netfilter: xtables: don't
// hook tables by default").
func iptablesFor(release kernel.Release, name string) string {
	for _, program := range []string{"iptables", "ip6tables"} {
		backend, own := strings.CutPrefix(name, program)
		if own && release.Before(4, 18) && !strings.HasPrefix(backend, "-legacy") && !strings.HasPrefix(backend, "-nft") {
			return program + "-legacy" + backend
		}
	}
	return name
}

// addIPTables collects iptables and its extensions: the variant that this system has
// chosen, if the kernel can use it.
func (p *programs) addIPTables(release kernel.Release, lookPath func(string) (string, error)) error {
	for _, name := range iptablesNames() {
		path, err := lookPath(iptablesFor(release, name))
		if err != nil && name != iptablesNames()[0] {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s is not installed (%w), and Linux %v needs it: run hack/bootstrap", iptablesFor(release, name), err, release)
		}
		if err := p.add("/usr/sbin/"+name, path); err != nil {
			return err
		}
	}
	var extensions []string
	for _, dir := range libraryDirs() {
		found, err := filepath.Glob(filepath.Join(dir, "xtables", "lib*.so"))
		if err != nil {
			return err
		}
		extensions = append(extensions, found...)
	}
	if len(extensions) == 0 {
		return fmt.Errorf("no extensions of iptables (xtables/lib*.so) in %s", strings.Join(libraryDirs(), ", "))
	}
	for _, path := range slices.Compact(extensions) {
		if err := p.add(path, path); err != nil {
			return err
		}
	}
	return nil
}

// balancerNames are the programs that balance in some labs. When one is not installed here,
// a lab that needs it fails in the machine.
func balancerNames() []string { return []string{"haproxy"} }

// addBalancers collects those that are installed.
func (p *programs) addBalancers(lookPath func(string) (string, error)) error {
	for _, name := range balancerNames() {
		path, err := lookPath(name)
		if err != nil {
			continue
		}
		if err := p.add("/usr/sbin/"+name, path); err != nil {
			return err
		}
	}
	return nil
}
