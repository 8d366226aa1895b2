//go:build linux

package vm

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twlab/harness/kernel"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Errors of a directory of modules.
var (
	// ErrNoModule is wrapped when a module that another one depends on does not exist.
	ErrNoModule = errors.New("module missing")
	// ErrForeignModule is wrapped when a module was built for another kernel.
	ErrForeignModule = errors.New("module of another kernel")
)

// module is a module as it is stored in the initramfs: not compressed.
type module struct {
	name  string
	image []byte
}

// Modules is the set of modules of a kernel.
type Modules struct {
	release string            // of their kernel; empty when it is not checked
	files   map[string]string // path by name, compressed or not
	builtin map[string]bool
}

// OpenKernel reads the image of a kernel and lists its modules.
func OpenKernel(k kernel.Image) (kernel.Release, Modules, error) {
	release, err := k.Release()
	if err != nil {
		return release, Modules{}, err
	}
	available, err := openModules(k.Modules)
	if err != nil {
		return release, Modules{}, fmt.Errorf("modules of kernel %v: %w; want a directory such as /lib/modules/%[1]v", release, err)
	}
	available.release = release.Text
	return release, available, nil
}

// openModules lists a directory such as /lib/modules/6.1.0-1-amd64. It does not need
// modules.dep, which packages leave to depmod(8): each module names the modules that it
// depends on. An empty dir has no modules.
func openModules(dir string) (Modules, error) {
	m := Modules{files: map[string]string{}, builtin: map[string]bool{}}
	if dir == "" {
		return m, nil
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return m, err
	}
	for file := range strings.FieldsSeq(string(builtin)) {
		m.builtin[moduleName(file)] = true
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(entry.Name(), ".ko") {
			m.files[moduleName(path)] = path
		}
		return err
	})
	return m, err
}

// Has reports whether there is a module of this name, or the image contains it.
func (m Modules) Has(name string) bool { return m.builtin[name] || m.files[name] != "" }

// CheckParameter returns an error when there is no module of this name that can be loaded, or
// it does not have the parameter. The kernel itself ignores a parameter that it does not know
// (unknown_module_param_cb).
func (m Modules) CheckParameter(name, parameter string) error {
	file, found := m.files[name]
	if !found {
		return fmt.Errorf("%w: %s", ErrNoModule, name)
	}
	image, err := readModule(file)
	if err != nil {
		return fmt.Errorf("module %s: %w", file, err)
	}
	says, err := modinfo(image)
	if err != nil {
		return fmt.Errorf("module %s: %w", file, err)
	}
	if !slices.Contains(says.parameters, parameter) {
		return fmt.Errorf("module %s has no parameter %s: another kernel is needed", file, parameter)
	}
	return nil
}

// moduleName is the kernel's name of a module: "nf_nat" for nf-nat.ko.xz.
func moduleName(file string) string {
	base, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// asked lists modules that other modules request from the kernel during their
// initialisation (request_module), and without which they fail. No list contains them:
// modules that call each other's functions depend on each other, but these do not. A
// machine has no modprobe(8) that the kernel could call.
//
// From 3.7 to 4.18, NAT for an address family requested "nf_conntrack-2" or
// "nf_conntrack-10", by the number of the family. These are aliases of the module that
// tracks connections of that family. Without it, NAT failed with EPROTOTYPE
// (nf_nat_l3proto_register calls nf_ct_l3proto_try_module_get; gone with commit
// a0ae2562c6c4, Linux 4.19).
var asked = map[string][]string{
	"nf_nat_ipv4": {"nf_conntrack_ipv4"},
	"nf_nat_ipv6": {"nf_conntrack_ipv6"},
}

// load reads those modules of these names that exist, and all that they depend on, each
// after its dependencies. Modules that a module lists as useful before or after itself
// (MODULE_SOFTDEP) are added when they exist.
func (m Modules) load(names []string) ([]module, error) {
	var loaded []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if seen[name] || m.builtin[name] {
			return nil
		}
		seen[name] = true
		file, found := m.files[name]
		if !found {
			return fmt.Errorf("%w: %s", ErrNoModule, name)
		}
		image, err := readModule(file)
		if err != nil {
			return fmt.Errorf("module %s: %w", file, err)
		}
		says, err := modinfo(image)
		if err != nil {
			return fmt.Errorf("module %s: %w", file, err)
		}
		if m.release != "" && says.release != "" && says.release != m.release {
			return fmt.Errorf("module %s: %w: of %s, and this is %s", file, ErrForeignModule, says.release, m.release)
		}
		for _, n := range slices.Concat(m.there(asked[name]), m.there(says.before), says.depends) {
			if err := add(n); err != nil {
				return fmt.Errorf("module %s needs another: %w", name, err)
			}
		}
		loaded = append(loaded, module{name, image})
		for _, n := range m.there(says.after) {
			if err := add(n); err != nil {
				return fmt.Errorf("module %s needs another after it: %w", name, err)
			}
		}
		return nil
	}
	for _, name := range m.there(names) {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return loaded, nil
}

// there returns those names that have a file here.
func (m Modules) there(names []string) (found []string) {
	for _, name := range names {
		if m.files[name] != "" {
			found = append(found, name)
		}
	}
	return found
}

// readModule reads a module and decompresses it if necessary.
func readModule(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var plain io.Reader = file
	switch filepath.Ext(path) {
	case ".xz":
		plain, err = xz.NewReader(file)
	case ".gz":
		plain, err = gzip.NewReader(file)
	case ".zst":
		var unpack *zstd.Decoder
		if unpack, err = zstd.NewReader(file); err == nil {
			defer unpack.Close()
			plain = unpack
		}
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// information is what the section .modinfo of a module says.
type information struct {
	depends       []string // "depends=virtio,virtio_ring"
	before, after []string // "softdep=pre: nf_log_ipv4 post: nf_log_ipv6"
	parameters    []string // "parm=hashsize:..."
	release       string   // "vermagic=6.1.0-1-amd64 SMP"; empty when it does not say
}

func modinfo(image []byte) (says information, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return says, err
	}
	if file.Machine != elf.EM_X86_64 {
		return says, fmt.Errorf("it is for %v, and machines are x86-64", file.Machine)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return says, errors.New("no section .modinfo: not a kernel module")
	}
	text, err := section.Data()
	if err != nil {
		return says, err
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "vermagic":
			says.release, _, _ = strings.Cut(value, " ")
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					says.depends = append(says.depends, moduleName(name))
				}
			}
		case "parm":
			parameter, _, _ := strings.Cut(value, ":")
			says.parameters = append(says.parameters, parameter)
		case "softdep":
			says.soft(value)
		}
	}
	slices.Sort(says.depends)
	return says, nil
}

// soft reads the modules that a module lists as useful: names after "pre:" and "post:".
func (i *information) soft(text string) {
	var list *[]string
	for word := range strings.FieldsSeq(text) {
		switch {
		case word == "pre:":
			list = &i.before
		case word == "post:":
			list = &i.after
		case list != nil:
			*list = append(*list, moduleName(word))
		}
	}
}
