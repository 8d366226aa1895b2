package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/kernels"
)

func TestUsage(t *testing.T) {
	t.Setenv(kernels.CacheVariable, t.TempDir())
	for _, c := range []struct {
		arguments string
		says      string
	}{
		{"", "want list, fetch, path or remove"},
		{"boot", `unknown command "boot"`},
		{"list debian-6.1", "list wants no names"},
		{"fetch", "fetch wants a name: debian-3.2,"},
		{"fetch a b --deb x.deb", "are several names"},
		{"path", "path wants one name"},
		{"path a b", "path wants one name"},
		{"remove", "remove wants a name"},
		{"path debian-6.1 --deb x.deb", "belong to fetch"},
		{"fetch debian-6.1 --mirror", "needs an argument"},
		{"fetch --colour debian-6.1", "-colour"},
	} {
		var stdout, stderr strings.Builder
		err := run(t.Context(), strings.Fields(c.arguments), &stdout, &stderr)
		var slip usageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line with %q", c.arguments, err, c.says)
		}
		if stdout.Len()+stderr.Len() > 0 {
			t.Errorf("%q also says %q %q", c.arguments, stdout.String(), stderr.String())
		}
	}
	for _, ask := range []string{"--help", "-h", "fetch --help"} {
		var stdout strings.Builder
		if err := run(t.Context(), strings.Fields(ask), &stdout, nil); err != nil || stdout.String() != usage {
			t.Errorf("%s: %v %q", ask, err, stdout.String())
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
		var stdout strings.Builder
		if err := run(t.Context(), append(arguments, "--cache", dir), &stdout, nil); err != nil {
			t.Errorf("%q: %v", arguments, err)
		}
		return stdout.String()
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
	if err := run(t.Context(), []string{"path", "mine", "--cache", dir}, nil, nil); !errors.Is(err, kernels.ErrUnknown) {
		t.Error(err)
	}
}
