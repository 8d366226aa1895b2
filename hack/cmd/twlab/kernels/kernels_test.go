package kernels

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
	"twlab/harness/kernels"
)

// say runs the subcommand, as its program has it.
func say(t *testing.T, arguments ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := Command()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(cli.WrongFlag)
	c.SetArgs(arguments)
	var out, said strings.Builder
	c.SetOut(&out)
	c.SetErr(&said)
	err = c.ExecuteContext(t.Context())
	return out.String(), said.String(), err
}

func TestUsage(t *testing.T) {
	t.Setenv(kernels.CacheVariable, t.TempDir())
	for _, c := range []struct {
		arguments string
		says      string
	}{
		{"", "want one of fetch, list, path, remove"},
		{"boot", `unknown command "boot"`},
		{"list debian-6.1", "list wants no names"},
		{"fetch", "fetch wants a name: debian-3.2,"},
		{"fetch a b --deb x.deb", "are several names"},
		{"path", "path wants one name"},
		{"path a b", "path wants one name"},
		{"remove", "remove wants a name"},
		{"path debian-6.1 --deb x.deb", "--deb means nothing here; it belongs to kernels fetch"},
		{"fetch debian-6.1 --mirror", "needs an argument"},
		{"fetch --colour debian-6.1", "--colour"},
	} {
		stdout, stderr, err := say(t, strings.Fields(c.arguments)...)
		var slip cli.UsageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line with %q", c.arguments, err, c.says)
		}
		if stdout+stderr != "" {
			t.Errorf("%q also says %q %q", c.arguments, stdout, stderr)
		}
	}
}

func TestListAndPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(kernels.CacheVariable, "/nowhere") // --cache goes before it
	for path, text := range map[string]string{
		"debian-6.1/kernel.json":             `{"release": "6.1.0-50", "origin": "a mirror", "size": 26000000}`,
		"debian-6.1/vmlinuz":                 "image",
		"debian-6.1/lib/modules/6.1.0-50/.x": "",
		"mine/kernel.json":                   `{"release": "4.2.2", "origin": "/home/mine.deb", "size": 5000000}`,
		"mine/vmlinuz":                       "image",
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	says := func(arguments ...string) string {
		t.Helper()
		stdout, _, err := say(t, append(arguments, "--cache", dir)...)
		if err != nil {
			t.Errorf("%q: %v", arguments, err)
		}
		return stdout
	}
	if got, want := says("path", "debian-6.1"), dir+"/debian-6.1/vmlinuz\n"+dir+"/debian-6.1/lib/modules/6.1.0-50\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := says("path", "mine"), dir+"/mine/vmlinuz\n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	lines := map[string]string{}
	for line := range strings.Lines(says("list")) {
		fields := strings.Fields(line)
		lines[fields[0]] = strings.Join(fields[1:], " ")
	}
	for name, want := range map[string]string{
		"debian-6.1":  "yes 6.1.0-50 26 MB a mirror",
		"debian-5.10": "no 5.10 suite bullseye",
		"debian-4.9":  "no 4.9 suite stretch (archived",
		"mine":        "yes 4.2.2 5 MB /home/mine.deb",
	} {
		if !strings.HasPrefix(lines[name], want) {
			t.Errorf("%s: %q, want %q", name, lines[name], want)
		}
	}
	says("remove", "mine", "debian-6.1")
	if _, _, err := say(t, "path", "mine", "--cache", dir); !errors.Is(err, kernels.ErrUnknown) {
		t.Error(err)
	}
}
