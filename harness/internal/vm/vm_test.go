//go:build linux

package vm

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"

	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// moduleImage is the least that is a module: ELF with a section .modinfo.
func moduleImage(t *testing.T, machine elf.Machine, modinfo string) []byte {
	t.Helper()
	const names = "\x00.shstrtab\x00.modinfo\x00"
	const headers = 64
	body := headers
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: uint64(body), Size: uint64(len(names))},
		{Name: 11, Type: uint32(elf.SHT_PROGBITS), Off: uint64(body + len(names)), Size: uint64(len(modinfo))},
	}
	head := elf.Header64{
		Ident:   [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_REL),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT), Ehsize: headers,
		Shoff: uint64(body + len(names) + len(modinfo)), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 1,
	}
	var image bytes.Buffer
	for _, part := range []error{
		binary.Write(&image, binary.LittleEndian, head),
		binary.Write(&image, binary.LittleEndian, []byte(names+modinfo)),
		binary.Write(&image, binary.LittleEndian, sections),
	} {
		if part != nil {
			t.Fatal(part)
		}
	}
	return image.Bytes()
}

// packers compress as the file's name says.
var packers = map[string]func(io.Writer) (io.WriteCloser, error){
	".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
}

// modulesDir makes a directory of modules: what each depends on, by its file.
func modulesDir(t *testing.T, builtin string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, depends := range files {
		image := moduleImage(t, elf.EM_X86_64, "license=GPL\x00depends="+depends+"\x00")
		if packer, packed := packers[filepath.Ext(file)]; packed {
			var out bytes.Buffer
			w, err := packer(&out)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(image)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			image = out.Bytes()
		}
		path := filepath.Join(dir, "kernel", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestModulesComeAfterWhatTheyDependOn(t *testing.T) {
	dir := modulesDir(t, "kernel/net/failover.ko\nkernel/drivers/virtio/virtio.ko\n", map[string]string{
		"net/virtio_net.ko.xz":            "net-failover,virtio_ring",
		"net/net-failover.ko.gz":          "failover",
		"virtio/virtio_ring.ko":           "virtio",
		"virtio/virtio_pci.ko.zst":        "virtio_ring,virtio_pci_modern_dev",
		"virtio/virtio_pci_modern_dev.ko": "",
		"net/unwanted.ko":                 "",
	})
	m, err := openModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := m.load([]string{"virtio_pci", "virtio_net", "e1000", "tcp_diag"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range loaded {
		names = append(names, l.name)
		if !bytes.HasPrefix(l.image, []byte("\x7fELF")) {
			t.Errorf("%s is still compressed", l.name)
		}
	}
	want := []string{"virtio_pci_modern_dev", "virtio_ring", "virtio_pci", "net_failover", "virtio_net"}
	if !slices.Equal(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if !m.Has("virtio") || !m.Has("virtio_net") || m.Has("e1000") {
		t.Error("virtio is built in, virtio_net is there, and e1000 is not")
	}
}

// What a module asks the kernel for, or says that it would like to have, is there
// when it comes, as far as there is such a file.
func TestModulesComeAfterWhatTheyAskFor(t *testing.T) {
	m, err := openModules(modulesDir(t, "kernel/net/nf_defrag_ipv6.ko\n", map[string]string{
		"nf_nat_ipv4.ko":       "nf_nat,nf_conntrack",
		"nf_nat.ko":            "nf_conntrack",
		"nf_conntrack.ko":      "",
		"nf_conntrack_ipv4.ko": "nf_conntrack",
		"nf_nat_ipv6.ko":       "nf_nat", // its kernel has nf_conntrack_ipv6 built in
		"nf_log.ko":            "\x00softdep=pre: crypto-hash nf-log_ipv4 post: nf_log_ipv6\x00softdep=pre: nf_log_arp",
		"nf-log-ipv4.ko":       "nf_log_common",
		"nf_log_common.ko":     "",
		"nf_log_ipv6.ko":       "nf_log",
		"nf_log_arp.ko":        "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := m.load([]string{"nf_nat_ipv4", "nf_nat_ipv6", "nf_log"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range loaded {
		names = append(names, l.name)
	}
	want := []string{
		"nf_conntrack", "nf_conntrack_ipv4", "nf_nat", "nf_nat_ipv4", "nf_nat_ipv6",
		"nf_log_common", "nf_log_ipv4", "nf_log_arp", "nf_log", "nf_log_ipv6",
	}
	if !slices.Equal(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
}

func TestModulesThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		is    error
		says  string
	}{
		"missing": {map[string]string{"virtio_net.ko": "net_failover"}, ErrNoModule, "module virtio_net needs another: module missing: net_failover"},
		"foreign": {
			map[string]string{"virtio_net.ko": "\x00vermagic=5.10.0-1 SMP mod_unload "}, ErrForeignModule,
			"virtio_net.ko: module of another kernel: of 5.10.0-1, and this is 6.1.0-1",
		},
	} {
		m, err := openModules(modulesDir(t, "", c.files))
		if err != nil {
			t.Fatal(err)
		}
		m.release = "6.1.0-1"
		if _, err := m.load([]string{"virtio_pci", "virtio_net", "e1000", "tcp_diag"}); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if _, err := modinfo(moduleImage(t, elf.EM_AARCH64, "depends=\x00")); err == nil || !strings.Contains(err.Error(), "EM_AARCH64") {
		t.Errorf("arm64 module: %v", err)
	}
	if _, err := modinfo([]byte("no module")); err == nil {
		t.Error("text is taken for a module")
	}
	if _, err := openModules(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestInitramfsHasTheAgentAndItsModules(t *testing.T) {
	m, err := openModules(modulesDir(t, "", map[string]string{"e1000.ko.xz": "", "tcp_diag.ko": "inet_diag", "inet_diag.ko": ""}))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(program, []byte("the agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := Initramfs(program, m, []string{"virtio_pci", "virtio_net", "e1000", "tcp_diag"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got := map[string]string{}
	err = cpio.ForEachRecord(cpio.Newc.Reader(file), func(r cpio.Record) error {
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		got[r.Name] = string(content)
		if r.Name == "init" && r.Mode&0o111 == 0 {
			t.Error("init is not executable")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got["init"] != "the agent" {
		t.Errorf("init is %q", got["init"])
	}
	if want := "/modules/e1000.ko\n/modules/inet_diag.ko\n/modules/tcp_diag.ko\n"; got["modules/order"] != want {
		t.Errorf("order is %q, want %q", got["modules/order"], want)
	}
	for _, name := range []string{"dev/console", "modules/e1000.ko"} {
		if _, found := got[name]; !found {
			t.Errorf("no %s", name)
		}
	}
}

func TestConsoleKeepsTheEnd(t *testing.T) {
	var c Console
	if got, why := c.Tail(), c.Panicked(); got != "its console is empty" || why != "" {
		t.Errorf("%q, %q", got, why)
	}
	for range 20_000 {
		if _, err := c.Write([]byte("[    0.000000] the same again\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write([]byte("Kernel panic - not syncing: why\r\n" + strings.Repeat("stack\r\n", tailLines-1) + "the end\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := len(c.String()); got > consoleSize || got < consoleSize/2 {
		t.Errorf("keeps %d bytes", got)
	}
	if got := c.Panicked(); got != "Kernel panic - not syncing: why" {
		t.Error(got)
	}
	if tail := c.Tail(); !strings.Contains(tail, ":\n\tKernel panic - not syncing: why\n\t...\n\tstack\n") ||
		!strings.HasSuffix(tail, "\n\tthe end") || strings.Count(tail, "\n") != tailLines+2 {
		t.Errorf("tail: %s", tail)
	}
}
