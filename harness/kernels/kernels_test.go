//go:build linux

package kernels

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
)

// contents are the files of a package, by path.
type contents map[string]string

// image is the start of a kernel image, as far as anybody looks at it.
func image(architecture string) string {
	head := make([]byte, 1024)
	switch architecture {
	case "amd64":
		copy(head[0x202:], "HdrS")
	case "arm64":
		copy(head[0x38:], "ARM\x64")
	}
	return string(head)
}

func here(t *testing.T) string {
	t.Helper()
	architecture, err := Architecture()
	if err != nil {
		t.Skip(err)
	}
	return architecture
}

// deb builds a package.
func deb(t *testing.T, name, architecture string, files contents) string {
	t.Helper()
	if err := haveUnpacker(); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	control := "Package: " + name + "\nVersion: 1.0-1\nArchitecture: " + architecture +
		"\nMaintainer: nobody <nobody@localhost>\nDescription: a test\n"
	write(t, filepath.Join(root, "DEBIAN/control"), control)
	for path, text := range files {
		write(t, filepath.Join(root, path), text)
	}
	if err := os.Chmod(filepath.Join(root, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".deb")
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "--build", root, path).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wholeKernel is a package as Debian makes them, with a list of modules so that
// nobody needs depmod.
func wholeKernel(t *testing.T, release string) string {
	t.Helper()
	return deb(t, "linux-image-"+release, here(t), contents{
		"boot/vmlinuz-" + release:                        image(here(t)),
		"boot/config-" + release:                         "CONFIG_INET=y\n",
		"lib/modules/" + release + "/modules.dep":        "kernel/a.ko:\n",
		"lib/modules/" + release + "/kernel/a.ko":        "module",
		"usr/share/doc/linux-image-" + release + "/NEWS": "none",
	})
}

// shows is what somebody finds in a cache.
func shows(t *testing.T, c Cache) []string {
	t.Helper()
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != lockFile {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCatalogueIsInOrder(t *testing.T) {
	var last kernel.Release
	for i, e := range Catalogue() {
		if err := checkName(e.Name); err != nil {
			t.Error(err)
		}
		if found, ok := Lookup(e.Name); !ok || found != e {
			t.Errorf("%s is there twice", e.Name)
		}
		if e.Suite == "" || e.Purpose == "" || !strings.Contains(e.Package, "ARCH") {
			t.Errorf("%s is incomplete", e.Name)
		}
		if e.Series == "" {
			if i != len(Catalogue())-1 {
				t.Errorf("%s may be any version, and is not the last", e.Name)
			}
			continue
		}
		r, err := kernel.ParseRelease(e.Series)
		if err != nil {
			t.Fatal(err)
		}
		if !last.Before(r.Major, r.Minor) {
			t.Errorf("%s does not come after %v", e.Name, last)
		}
		if e.accepts(e.Series+".7-1-cloud") != nil || e.accepts("2.6.32-5") == nil || e.accepts(e.Series+"1.0") == nil {
			t.Errorf("%s takes the wrong releases", e.Name)
		}
		last = r
	}
}

func TestDestination(t *testing.T) {
	for name, want := range map[string][2]string{
		"./boot/vmlinuz-6.1.0-50-cloud-amd64":                     {imageFile, "6.1.0-50-cloud-amd64"},
		"./boot/config-6.1.0-50-cloud-amd64":                      {configFile, ""},
		"./boot/System.map-6.1.0":                                 {"", ""},
		"./usr/lib/modules/7.2.13+deb14-cloud-amd64/vmlinuz":      {imageFile, "7.2.13+deb14-cloud-amd64"},
		"./usr/lib/modules/7.2.13+deb14-cloud-amd64/config":       {configFile, ""},
		"./usr/lib/modules/6.12.1/kernel/net/ipv4/tcp_diag.ko.xz": {"lib/modules/6.12.1/kernel/net/ipv4/tcp_diag.ko.xz", ""},
		"./lib/modules/5.10.0/modules.builtin":                    {"lib/modules/5.10.0/modules.builtin", ""},
		"./usr/share/doc/linux/copyright":                         {"", ""},
		"../../lib/modules/../../etc/passwd":                      {"", ""},
	} {
		if to, release := destination(name); to != want[0] || release != want[1] {
			t.Errorf("%s goes to %q (release %q), want %q", name, to, release, want)
		}
	}
}

func TestImageArchitecture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	for _, want := range []string{"amd64", "arm64"} {
		write(t, path, image(want))
		if got, err := ImageArchitecture(path); got != want || err != nil {
			t.Errorf("%q, %v, want %s", got, err, want)
		}
	}
	for _, text := range []string{"", "short", image("none"), "\x7fELF" + image("none")} {
		write(t, path, text)
		if got, err := ImageArchitecture(path); err == nil {
			t.Errorf("%.8q is an image for %s", text, got)
		}
	}
}

func TestMirrorsInWhatAptPrints(t *testing.T) {
	printed := `'http://one.example/debian/dists/bookworm/InRelease' one_InRelease 0
'http://one.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' one_Packages 0
'http://one.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' one_Packages 0
'http://one.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' security_Packages 0
'https://other.example/linux/debian/dists/bookworm/stable/binary-amd64/Packages' other_Packages 0
'https://other.example/sdk/dists/cloud-sdk-bookworm/main/binary-amd64/Packages' sdk_Packages 0
'cdrom:[Debian 12]/dists/bookworm/main/binary-amd64/Packages' cdrom_Packages 0
'mirror+file:/etc/apt/mirrors.list/dists/trixie/main/binary-amd64/Packages' list_Packages 0
'http://one.example/debian/dists/sid/main/binary-amd64/Packages.xz' one_Packages 0
`
	want := []string{"http://one.example/debian", "mirror+file:/etc/apt/mirrors.list"}
	if got := mirrorsIn(printed); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	ubuntu := "'http://u.example/ubuntu/dists/noble/main/binary-amd64/Packages.xz' u_Packages 0\n"
	if got := mirrorsIn(ubuntu); len(got) > 0 {
		t.Errorf("%q are mirrors of Debian", got)
	}
}

func TestRecordOfAPackage(t *testing.T) {
	r := parseRecord("Package: linux-image-7.2\nSize: 1916\nDepends: dracut | linux-initramfs-tool, linux-base (>= 4.3~), " +
		"linux-base-7.2 (= 7.2-1), linux-binary-7.2 (= 7.2-1) | none,linux-modules-7.2\nSHA256: 00\n\nPackage: other\nSize: 1\n")
	want := []string{"linux-base-7.2", "linux-binary-7.2", "linux-modules-7.2"}
	if got := r.kernelDependencies(); !slices.Equal(got, want) || r.size != 1916 {
		t.Errorf("%q and %d bytes, want %q and 1916", got, r.size, want)
	}
}

func TestMirrorIsChecked(t *testing.T) {
	for mirror, good := range map[string]bool{
		"https://host.example/debian": true, "file:/srv/debian": true,
		"host.example": false, "http://a b/debian": false, "https://": false, "[trusted=yes] http://x/y": false,
	} {
		if err := checkMirror(mirror); (err == nil) != good {
			t.Errorf("%q: %v", mirror, err)
		}
	}
	if got := redacted("https://me:secret@host.example/debian"); got != "https://host.example/debian" {
		t.Errorf("says %s", got)
	}
}

func TestFetchFromAPackage(t *testing.T) {
	c := Cache{Dir: filepath.Join(t.TempDir(), "made", "by", "fetch")}
	_, err := c.Find("debian-5.10")
	if !errors.Is(err, ErrNotFetched) || !strings.Contains(err.Error(), "hack/twlab kernels fetch debian-5.10") {
		t.Fatalf("not fetched: %v", err)
	}
	const release = "5.10.0-32-cloud"
	if _, err := c.Fetch(t.Context(), Request{Name: "debian-5.10", Debs: []string{wholeKernel(t, release)}}); err != nil {
		t.Fatal(err)
	}
	k, err := c.Find("debian-5.10")
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != release || k.Architecture != here(t) || k.Size < 1024 {
		t.Errorf("%+v", k)
	}
	if want := []string{"linux-image-" + release + " 1.0-1"}; !slices.Equal(k.Packages, want) {
		t.Errorf("%q, want %q", k.Packages, want)
	}
	if k.Image != filepath.Join(c.Dir, "debian-5.10", "vmlinuz") {
		t.Errorf("%+v", k)
	}
	if raw, err := os.ReadFile(filepath.Join(k.Modules, "kernel", "a.ko")); string(raw) != "module" {
		t.Errorf("module: %q, %v", raw, err)
	}
	if got := shows(t, c); !slices.Equal(got, []string{"debian-5.10"}) {
		t.Errorf("the cache has %q", got)
	}

	if _, err := c.Fetch(t.Context(), Request{Name: "debian-5.10", Debs: []string{wholeKernel(t, release)}}); err == nil {
		t.Error("fetched over the one that was there")
	}
	if again, err := c.Fetch(t.Context(), Request{Name: "debian-5.10"}); err != nil || again.Release != release {
		t.Errorf("what is there is fetched again: %+v, %v", again, err)
	}
	if _, err := c.Fetch(t.Context(), Request{Name: "debian-4.9", Debs: []string{wholeKernel(t, "4.9.0-19")}}); err != nil {
		t.Fatal(err)
	}
	if k, err := c.Fetch(t.Context(), Request{Name: "debian-4.9"}); err != nil || k.Release != "4.9.0-19" {
		t.Errorf("archived, and there: %+v, %v", k, err)
	}
}

func TestFetchesOfOneNameAtOnce(t *testing.T) {
	c, debs := Cache{Dir: t.TempDir()}, []string{wholeKernel(t, "6.1.0-1")}
	const fetches = 4
	outcomes := make(chan error, fetches)
	for range fetches {
		go func() {
			_, err := c.Fetch(t.Context(), Request{Name: "mine", Debs: debs})
			outcomes <- err
		}()
	}
	won := 0
	for range fetches {
		if err := <-outcomes; err == nil {
			won++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	if got := shows(t, c); won != 1 || !slices.Equal(got, []string{"mine"}) {
		t.Errorf("%d of them won, and the cache has %q", won, got)
	}
}

func TestFetchNamesAPackageByItsRelease(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if _, err := c.Fetch(t.Context(), Request{Debs: []string{wholeKernel(t, "4.2.2-old")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Find("4.2.2-old"); err != nil {
		t.Error(err)
	}
	_, err := c.Find("4.2.3")
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "4.2.2-old") || !strings.Contains(err.Error(), "debian-6.1") {
		t.Errorf("does not say what is known: %v", err)
	}
}

// As Debian has them since 14, and Ubuntu always.
func TestFetchFromSeveralPackages(t *testing.T) {
	architecture, c := here(t), Cache{Dir: t.TempDir()}
	const release = "7.2.13+deb14"
	modules := "usr/lib/modules/" + release
	k, err := c.Fetch(t.Context(), Request{Name: "debian-newest", Debs: []string{
		deb(t, "linux-binary", architecture, contents{modules + "/vmlinuz": image(architecture)}),
		deb(t, "linux-modules", architecture, contents{modules + "/modules.dep": "", modules + "/kernel/b.ko.xz": "b"}),
		deb(t, "linux-base", "all", contents{modules + "/config": "CONFIG_INET=y\n"}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != release || len(k.Packages) != 3 || k.Modules == "" {
		t.Errorf("%+v", k)
	}
	if _, err := os.Stat(filepath.Join(k.Modules, "kernel/b.ko.xz")); err != nil {
		t.Error(err)
	}
}

func TestModulesAreListed(t *testing.T) {
	if err := haveDepmod(); err != nil {
		t.Skip(err)
	}
	architecture, c := here(t), Cache{Dir: t.TempDir()}
	k, err := c.Fetch(t.Context(), Request{Debs: []string{deb(t, "linux-image-6.1.0", architecture, contents{
		"boot/vmlinuz-6.1.0": image(architecture), "lib/modules/6.1.0/modules.order": "", "lib/modules/6.1.0/modules.builtin": "",
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(k.Modules, "modules.dep")); err != nil {
		t.Error(err)
	}
}

func TestBadPackagesAreRefused(t *testing.T) {
	architecture := here(t)
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[architecture]
	whole := wholeKernel(t, "6.1.0-1")
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, half, bare := filepath.Join(dir, "README"), filepath.Join(dir, "half.deb"), filepath.Join(dir, "bzImage")
	write(t, text, "not a package")
	write(t, half, string(raw[:len(raw)-len(raw)/4]))
	write(t, bare, image(architecture))
	headers := deb(t, "headers", "all", contents{"usr/share/doc/x": ""})
	far := deb(t, "far", foreign, contents{"usr/share/doc/x": ""})
	farInside := deb(t, "far", architecture, contents{"boot/vmlinuz-6": image(foreign)})
	odd := deb(t, "odd", architecture, contents{"boot/vmlinuz-6": "x"})
	others := deb(t, "modules", "all", contents{"lib/modules/5.9/modules.dep": ""})

	for name, c := range map[string]struct {
		as   string
		debs []string
		says string
	}{
		"no such file":           {"mine", []string{"/nowhere/x.deb"}, "no such file"},
		"no package":             {"mine", []string{text}, "is not a Debian package"},
		"half a package":         {"mine", []string{half}, half},
		"an image":               {"mine", []string{bare}, "labs take it by its path"},
		"no kernel in it":        {"mine", []string{headers}, "no kernel image (boot/vmlinuz-*) in headers 1.0-1"},
		"foreign package":        {"mine", []string{far}, "is for " + foreign},
		"foreign image":          {"mine", []string{farInside}, "is for " + foreign},
		"image that is none":     {"mine", []string{odd}, "is not a kernel image"},
		"two kernels":            {"mine", []string{whole, wholeKernel(t, "6.1.0-2")}, "6.1.0-1 and 6.1.0-2 at once"},
		"modules of another":     {"mine", []string{whole, others}, "modules of 5.9 do not belong"},
		"another version's name": {"debian-5.10", []string{whole}, "debian-5.10 is a Linux 5.10, and this is 6.1.0-1"},
		"name outside the cache": {"../mine", []string{whole}, "want letters, digits"},
		"hidden name":            {".mine", []string{whole}, "want letters, digits"},
	} {
		t.Run(name, func(t *testing.T) {
			cache := Cache{Dir: filepath.Join(t.TempDir(), "cache")}
			_, err := cache.Fetch(t.Context(), Request{Name: c.as, Debs: c.debs})
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nis not one line with %q", err, c.says)
			}
			if left := shows(t, cache); len(left) > 0 {
				t.Errorf("leaves %q", left)
			}
		})
	}
}

func TestRequestsThatCannotWork(t *testing.T) {
	c := Cache{Dir: filepath.Join(t.TempDir(), "cache")}
	for _, r := range []struct {
		request Request
		says    string
	}{
		{Request{}, "want letters"},
		{Request{Name: "debian-6.2"}, "known are debian-3.2"},
		{Request{Name: "debian-4.9"}, "--deb FILE"},
		{Request{Name: "debian-6.1", Mirror: "nohost"}, "want a URL"},
		{Request{Name: "debian-6.1", Mirror: "http://host.example/", Debs: []string{"x.deb"}}, "not both"},
	} {
		if _, err := c.Fetch(t.Context(), r.request); err == nil || !strings.Contains(err.Error(), r.says) {
			t.Errorf("%+v: %v, want %q", r.request, err, r.says)
		}
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("they made the cache: %v", err)
	}
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/twlab"} {
		_, err := Cache{Dir: dir}.Fetch(t.Context(), Request{Name: "mine", Debs: []string{"x.deb"}})
		if err == nil || strings.Count(err.Error(), "--cache DIR") != 1 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := advise(unix.ENOSPC); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room") {
		t.Error(err)
	}
	if err := enoughRoom(t.TempDir(), 1<<62); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("room for everything: %v", err)
	}
	if err := enoughRoom(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
}

// A package decides which bytes, not where.
func TestPackagesStayInTheirTree(t *testing.T) {
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "./lib/modules/6.1.0/../../../../outside", Typeflag: tar.TypeReg},
		{Name: "./lib/modules/6.1.0/kernel", Typeflag: tar.TypeSymlink, Linkname: "/"},
		{Name: "./lib/modules/6.1.0/build", Typeflag: tar.TypeSymlink, Linkname: "../../../.."},
		{Name: "./lib/modules/6.1.0/kernel/inside.ko", Typeflag: tar.TypeReg, Size: 1},
	} {
		if err := files.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	s := tree{dir: filepath.Join(top, "tree")}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := s.extract(root, &archive); err != nil {
		t.Fatal(err)
	}
	var found []string
	err = fs.WalkDir(os.DirFS(top), ".", func(path string, e fs.DirEntry, err error) error {
		if !e.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if want := []string{"tree/lib/modules/6.1.0/kernel/inside.ko"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("%q, %v, want %q", found, err, want)
	}
}

func TestWhatADeadFetchLeftIsSwept(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	living, err := c.scratch()
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(c.Dir, unfinished+"dead")
	write(t, filepath.Join(dead, "tree", recordFile), "{}")
	if kernels, err := c.List(); len(kernels) > 0 || err != nil {
		t.Errorf("half a kernel is listed: %v, %v", kernels, err)
	}
	next, err := c.scratch()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shows(t, c), []string{filepath.Base(living.dir), filepath.Base(next.dir)}; !sameSet(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := errors.Join(living.close(), next.close()); err != nil {
		t.Error(err)
	}
	if got := shows(t, c); len(got) > 0 {
		t.Errorf("%q are left", got)
	}
}

func sameSet(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func TestRemove(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if err := c.Remove("debian-6.1"); !errors.Is(err, ErrNotFetched) {
		t.Error(err)
	}
	if err := c.Remove("nothing"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if err := c.Remove("../" + filepath.Base(c.Dir)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := c.Fetch(t.Context(), Request{Name: "good", Debs: []string{wholeKernel(t, "6.1.0-1")}}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.Dir, "bad", recordFile), "{")
	kernels, err := c.List()
	if len(kernels) != 1 || err == nil || !strings.Contains(err.Error(), "hack/twlab kernels remove bad") {
		t.Errorf("a damaged kernel beside a good one: %v, %v", kernels, err)
	}
	if err := errors.Join(c.Remove("good"), c.Remove("bad")); err != nil {
		t.Error(err)
	}
	if got := shows(t, c); len(got) > 0 {
		t.Errorf("%q are left", got)
	}
}
