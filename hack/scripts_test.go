// Package hack tests what the scripts beside it say when they cannot go on.
package hack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestE2ESaysWhyItCannotBegin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"directory that cannot be made": {[]string{"--output-dir", "/proc/twlab"}, "cannot write to the output directory"},
		"directory that is a file":      {[]string{"--output-dir", file}, "cannot write to the output directory"},
		"directory without a name":      {[]string{"--output-dir", ""}, "--output-dir wants a directory"},
		"flag without its value":        {[]string{"--procs"}, "--procs needs a value"},
		"no processes":                  {[]string{"--procs", "0"}, "--procs wants a number of at least 1"},
		"warp without a machine":        {[]string{"--warp"}, "give a kernel with --kernel all=NAME"},
		"kernel that is no file":        {[]string{"--kernel", "all=/nowhere/vmlinuz"}, "cannot read the kernel image '/nowhere/vmlinuz'"},
		"race on another kernel":        {[]string{"--kernel", "all=debian-6.1", "--race"}, "--race needs libraries"},
		"word that belongs to no flag":  {[]string{"-v", "timewait"}, "'timewait' belongs to no flag"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "./e2e", c.arguments...).CombinedOutput()
			if err == nil {
				t.Fatalf("it ran:\n%s", out)
			}
			said := strings.TrimSpace(string(out))
			if !strings.HasPrefix(said, "hack/e2e: ") || !strings.Contains(said, c.want) || strings.Contains(said, "\n") {
				t.Errorf("%q\nis not one line with %q", said, c.want)
			}
		})
	}
}
