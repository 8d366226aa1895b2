//go:build linux

package kernels

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// archive is a mirror of one suite in a directory, signed with a key of its own.
type archive struct {
	url     string
	keyring string
}

// makeArchive signs a suite with the packages of some files. The packages are
// described by hand: what they are, not what is in them, is what apt reads.
func makeArchive(t *testing.T, suite string, packages map[string]string) archive {
	t.Helper()
	for _, program := range []string{"apt-get", "gpg", "gpgconf"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	root := t.TempDir()
	var index strings.Builder
	for path, depends := range packages {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".deb")
		write(t, filepath.Join(root, "pool", name+".deb"), string(raw))
		fmt.Fprintf(&index, "Package: %[1]s\nVersion: 1.0-1\nArchitecture: %[2]s\nMaintainer: nobody\nFilename: pool/%[1]s.deb\n"+
			"Size: %[3]d\nSHA256: %[4]x\nDescription: a test\n", name, here(t), len(raw), sha256.Sum256(raw))
		if depends != "" {
			fmt.Fprintf(&index, "Depends: %s\n", depends)
		}
		fmt.Fprintln(&index)
	}
	list := "main/binary-" + here(t) + "/Packages"
	dists := filepath.Join(root, "dists", suite)
	write(t, filepath.Join(dists, list), index.String())
	write(t, filepath.Join(dists, "Release"), fmt.Sprintf(
		"Origin: Debian\nLabel: Debian\nSuite: %[1]s\nCodename: %[1]s\nDate: %[2]s\nArchitectures: %[3]s\nComponents: main\n"+
			"SHA256:\n %[4]x %[5]d %[6]s\n",
		suite, time.Now().UTC().Format(time.RFC1123), here(t), sha256.Sum256([]byte(index.String())), index.Len(), list))

	a := archive{url: "file:" + root, keyring: filepath.Join(root, "key.gpg")}
	home := t.TempDir()
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	gpg := func(arguments ...string) {
		t.Helper()
		all := []string{"--homedir", home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"}
		all = append(all, arguments...)
		if out, err := exec.CommandContext(t.Context(), "gpg", all...).CombinedOutput(); err != nil {
			t.Fatalf("gpg: %v: %s", err, out)
		}
	}
	defer func() {
		// The agent that gpg left in the background.
		if out, err := exec.CommandContext(t.Context(), "gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("gpgconf: %v: %s", err, out)
		}
	}()
	gpg("--quick-generate-key", "archive@localhost", "ed25519", "sign", "never")
	gpg("--output", a.keyring, "--export", "archive@localhost")
	gpg("--output", filepath.Join(dists, "InRelease"), "--clearsign", filepath.Join(dists, "Release"))
	return a
}

// As Debian's: a metapackage, and a kernel in pieces.
func kernelArchive(t *testing.T) archive {
	t.Helper()
	meta := deb(t, "linux-image-cloud-"+here(t), here(t), nil)
	image := deb(t, "linux-image-9.9-cloud", here(t), contents{"boot/vmlinuz-9.9-cloud": image(here(t))})
	modules := deb(t, "linux-modules-9.9-cloud", here(t), contents{"lib/modules/9.9-cloud/modules.dep": ""})
	return makeArchive(t, "sid", map[string]string{
		meta:    "linux-image-9.9-cloud (= 1.0-1)",
		image:   "kmod | other, linux-modules-9.9-cloud (= 1.0-1)",
		modules: "",
	})
}

func testApt(t *testing.T, keyring string) apt {
	t.Helper()
	a, err := newApt(filepath.Join(t.TempDir(), "apt"), here(t), []string{"/nowhere/key.gpg", keyring})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSignedArchive(t *testing.T) {
	mirror := kernelArchive(t)
	newest, _ := Lookup("debian-newest")
	var said []string
	tell := func(step string) { said = append(said, step) }
	debs, err := testApt(t, mirror.keyring).fetchFrom(t.Context(), mirror.url, newest, tell)
	if err != nil {
		t.Fatal(err)
	}
	if len(debs) != 2 || len(said) != 2 || !strings.Contains(said[1], "linux-image-9.9-cloud, linux-modules-9.9-cloud (1 MB)") {
		t.Fatalf("%q\nafter %q", debs, said)
	}
	c := Cache{Dir: t.TempDir()}
	k, err := c.Fetch(t.Context(), Request{Name: "debian-newest", Debs: debs})
	if err != nil || k.Release != "9.9-cloud" || k.Modules == "" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestArchivesThatAreNotTrusted(t *testing.T) {
	mirror, other := kernelArchive(t), kernelArchive(t)
	newest, _ := Lookup("debian-newest")
	dists := filepath.Join(strings.TrimPrefix(mirror.url, "file:"), "dists", "sid")

	for _, c := range []struct {
		name    string
		keyring string
		says    string
		spoil   func() error
	}{
		{"signed by somebody else", other.keyring, "signature", func() error { return nil }},
		{"changed after signing", mirror.keyring, "Hash Sum", func() error {
			return os.WriteFile(filepath.Join(dists, "main/binary-"+here(t)+"/Packages"), []byte("Package: x\n"), 0o644)
		}},
		{"not signed", mirror.keyring, "is not signed", func() error { return os.Remove(filepath.Join(dists, "InRelease")) }},
	} {
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		_, err := testApt(t, c.keyring).fetchFrom(t.Context(), mirror.url, newest, func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

func TestPackageThatIsNotWhatItsListSays(t *testing.T) {
	mirror := kernelArchive(t)
	pool := filepath.Join(strings.TrimPrefix(mirror.url, "file:"), "pool", "linux-image-9.9-cloud.deb")
	raw, err := os.ReadFile(pool)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	write(t, pool, string(raw))
	newest, _ := Lookup("debian-newest")
	if _, err := testApt(t, mirror.keyring).fetchFrom(t.Context(), mirror.url, newest, func(string) {}); err == nil {
		t.Error("is taken")
	} else if !strings.Contains(err.Error(), "download linux-image-9.9-cloud") {
		t.Error(err)
	}
}

func TestSuiteWithoutThePackage(t *testing.T) {
	mirror := makeArchive(t, "sid", map[string]string{deb(t, "hello", here(t), nil): ""})
	newest, _ := Lookup("debian-newest")
	_, err := testApt(t, mirror.keyring).fetchFrom(t.Context(), mirror.url, newest, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "look for package linux-image-cloud-"+here(t)) {
		t.Error(err)
	}
	etch := Entry{Suite: "etch", Package: "linux-image-ARCH"}
	_, err = testApt(t, mirror.keyring).fetchFrom(t.Context(), mirror.url, etch, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "read suite etch") {
		t.Error(err)
	}
}

func TestAptNeedsItsKeys(t *testing.T) {
	if _, err := newApt(t.TempDir(), "amd64", []string{"/nowhere/key.gpg"}); err == nil {
		t.Error("works without keys")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := newApt(t.TempDir(), "amd64", debianKeyrings); err == nil || !strings.Contains(err.Error(), "--deb FILE") {
		t.Error(err)
	}
}

func TestComplaints(t *testing.T) {
	said := "Get:1 file\nW: GPG error\nE: The repository is not signed.\nE: And more\nReading\n"
	if got, want := complaints(said), "The repository is not signed.; And more; GPG error"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := complaints("dpkg-deb: error\n\n"), "dpkg-deb: error"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := complaints(""); got != "it did not say why" {
		t.Errorf("%q about silence", got)
	}
}
