//go:build linux

package kernels

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// apt is the system's apt with its own state below dir: sources, lists and downloads. The
// system's configuration still applies (proxies, credentials), except its hooks after an
// update and its permission of unsigned packages.
type apt struct {
	dir          string
	architecture string
	keyrings     []string // the only keys whose signatures count
}

// Debian's current keys, and its retired keys, with which archived suites are signed.
var (
	debianKeyrings = []string{
		"/usr/share/keyrings/debian-archive-keyring.gpg",
		"/usr/share/keyrings/debian-archive-removed-keys.gpg",
	}
	errNoApt = errors.New("this system has no apt-get, which fetches and checks packages; " +
		"get the package elsewhere and give it with --deb FILE")
	errNoKeyring = errors.New("this system does not have the keys that Debian signs with; install debian-archive-keyring")
)

// newApt checks that the system has apt-get, and finds the keys with which it can check
// signatures.
func newApt(dir, architecture string, keyrings []string) (apt, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return apt{}, errNoApt
	}
	a := apt{dir: dir, architecture: architecture}
	for _, path := range keyrings {
		if _, err := os.Stat(path); err == nil {
			a.keyrings = append(a.keyrings, path)
		}
	}
	if len(a.keyrings) == 0 {
		return apt{}, errNoKeyring
	}
	if strings.ContainsAny(dir, "\"\n") {
		return apt{}, fmt.Errorf("apt cannot use a directory with a quotation mark in its name: %s", dir)
	}
	for _, below := range []string{"lists/partial", "cache/archives/partial", "system/partial", "downloads"} {
		if err := os.MkdirAll(filepath.Join(dir, below), 0o755); err != nil {
			return apt{}, err
		}
	}
	return a, nil
}

// Configuration for both uses of apt. This user does everything: apt's own user would not
// have access to a cache in a home directory.
const commonConfiguration = `
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
#clear Acquire::IndexTargets;
APT::Architecture "@ARCH@";
APT::Architectures { "@ARCH@"; };
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Packages {
	MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
	flatMetaKey "Packages";
	ShortDescription "Packages";
	Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
	flatDescription "$(RELEASE) Packages";
	Optional "no";
};
Dir::State "@DIR@";
Dir::State::status "/dev/null";
Dir::Cache "@DIR@/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
`

// To read the system's sources, and nothing of its state.
const systemConfiguration = commonConfiguration + `
Dir::State::lists "@DIR@/system";
`

// To use our own source only.
const privateConfiguration = commonConfiguration + `
Dir::State::lists "@DIR@/lists";
Dir::Etc::sourcelist "@DIR@/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
`

// run runs one of apt's programs in the directory for downloads, and returns its output.
func (a apt) run(ctx context.Context, configuration, program string, arguments ...string) (string, error) {
	text := strings.NewReplacer("@DIR@", a.dir, "@ARCH@", a.architecture).Replace(configuration)
	path := filepath.Join(a.dir, "apt.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	return command(ctx, a.downloads(), program, append([]string{"-q", "-c", path}, arguments...)...)
}

// command runs a program in a directory, with messages in English. The program dies with
// this process. The error ends with the program's own messages.
func command(ctx context.Context, dir, program string, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", program, context.Cause(ctx))
		}
		return "", fmt.Errorf("%s: %w: %s", program, err, complaints(stderr.String()))
	}
	return stdout.String(), nil
}

// complaints returns the messages of a failed program as one line: apt's errors and then
// its warnings, which say what was wrong with a signature; or the whole text when there are
// neither.
func complaints(stderr string) string {
	var found []string
	for _, mark := range []string{"E:", "W:", ""} {
		if mark == "" && len(found) > 0 {
			break
		}
		for line := range strings.Lines(stderr) {
			rest, marked := strings.CutPrefix(strings.TrimSpace(line), mark)
			if rest = strings.TrimSpace(rest); marked && rest != "" {
				found = append(found, rest)
			}
		}
	}
	if len(found) == 0 {
		return "it did not say why"
	}
	return strings.Join(found, "; ")
}

// A line of apt-get update --print-uris with a mirror that has main.
var printedURI = regexp.MustCompile(`(?m)^'(\S+)/dists/([^/' ]+)/main/binary-`)

// Names of Debian's suites that a system may have in its sources, in addition to those of
// the catalogue. Security and updates have no separate kernel series.
var otherSuites = []string{"forky", "duke", "unstable", "testing", "stable", "oldstable", "oldoldstable"}

// mirrorsIn returns the mirrors of Debian in the output of apt-get update --print-uris, in
// the order of the system's sources.
func mirrorsIn(printed string) []string {
	suites := slices.Clone(otherSuites)
	for _, e := range Catalogue() {
		suites = append(suites, e.Suite)
	}
	var mirrors []string
	for _, match := range printedURI.FindAllStringSubmatch(printed, -1) {
		mirror, suite := match[1], match[2]
		if slices.Contains(suites, suite) && !slices.Contains(mirrors, mirror) && !strings.HasPrefix(mirror, "cdrom:") {
			mirrors = append(mirrors, mirror)
		}
	}
	return mirrors
}

// systemMirrors returns the mirrors from which the system itself gets Debian. Some may be
// mirrors of another distribution that uses Debian's names of suites; the check of
// signatures shows that.
func (a apt) systemMirrors(ctx context.Context) ([]string, error) {
	printed, err := a.run(ctx, systemConfiguration, "apt-get", "update", "--print-uris")
	if err != nil {
		return nil, fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	mirrors := mirrorsIn(printed)
	if len(mirrors) == 0 {
		return nil, errors.New("this system's apt has no mirror of Debian; " +
			"name one with --mirror URL, or give a package with --deb FILE")
	}
	return mirrors, nil
}

// use makes one suite of one mirror the only source, and reads its lists.
func (a apt) use(ctx context.Context, mirror, suite string) error {
	source := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", a.architecture, strings.Join(a.keyrings, ","), mirror, suite)
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(source), 0o600); err != nil {
		return err
	}
	if _, err := a.run(ctx, privateConfiguration, "apt-get", "update"); err != nil {
		return fmt.Errorf("read suite %s of %s: %w", suite, redacted(mirror), err)
	}
	return nil
}

// The packages over which a kernel can be spread; other dependencies (initramfs tools,
// firmware) are not part of it.
var kernelPackage = regexp.MustCompile(`^linux-(image|binary|modules|base)-[0-9]`)

// kernelPackages follows those dependencies of a package that are pieces of a kernel. The
// size is that of the downloads, in bytes.
func (a apt) kernelPackages(ctx context.Context, name string) (names []string, size int64, err error) {
	queue := []string{name}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		shown, err := a.run(ctx, privateConfiguration, "apt-cache", "show", "--no-all-versions", next)
		if err != nil {
			return nil, 0, fmt.Errorf("look for package %s: %w", next, err)
		}
		record := parseRecord(shown)
		if next != name || kernelPackage.MatchString(next) {
			names = append(names, next)
			size += record.size
		}
		for _, dependency := range record.kernelDependencies() {
			if !slices.Contains(names, dependency) && !slices.Contains(queue, dependency) {
				queue = append(queue, dependency)
			}
		}
	}
	if len(names) == 0 {
		return nil, 0, fmt.Errorf("package %s depends on no kernel", name)
	}
	return names, size, nil
}

// record holds the needed parts of a package's description.
type record struct {
	depends string
	size    int64
}

// parseRecord reads the first paragraph of apt-cache show.
func parseRecord(shown string) record {
	var r record
	lines := bufio.NewScanner(strings.NewReader(shown))
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "Depends":
			r.depends = value
		case "Size":
			// An unreadable size only makes a progress message wrong.
			_, _ = fmt.Sscan(value, &r.size)
		}
	}
	return r
}

// kernelDependencies returns those dependencies that are pieces of a kernel; of
// alternatives, the first.
func (r record) kernelDependencies() []string {
	var names []string
	for dependency := range strings.SplitSeq(r.depends, ",") {
		first, _, _ := strings.Cut(dependency, "|")
		name, _, _ := strings.Cut(strings.TrimSpace(first), " ")
		if kernelPackage.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

// download downloads packages, checked against the signed lists, and returns their paths.
func (a apt) download(ctx context.Context, names []string) ([]string, error) {
	if _, err := a.run(ctx, privateConfiguration, "apt-get", append([]string{"download"}, names...)...); err != nil {
		return nil, fmt.Errorf("download %s: %w", strings.Join(names, ", "), err)
	}
	return filepath.Glob(filepath.Join(a.downloads(), "*.deb"))
}

func (a apt) downloads() string { return filepath.Join(a.dir, "downloads") }

// checkMirror returns an error for a URL that cannot be a mirror.
func checkMirror(mirror string) error {
	u, err := url.Parse(mirror)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" || strings.ContainsAny(mirror, " \t\n[]") {
		return fmt.Errorf("mirror %q: want a URL that has dists and pool below it, such as https://HOST/debian", mirror)
	}
	return nil
}

// redacted returns a mirror's URL without user and password.
func redacted(mirror string) string {
	u, err := url.Parse(mirror)
	if err != nil {
		return mirror
	}
	u.User = nil
	return u.String()
}
