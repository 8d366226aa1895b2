// Package hack tests what the scripts beside it say when they cannot go on.
package hack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestScriptsSayWhyTheyCannotBegin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script    string
		arguments []string
		want      string
	}{
		"directory that cannot be made": {"e2e", []string{"--output-dir", "/proc/twlab"}, "cannot write to the output directory"},
		"directory that is a file":      {"e2e", []string{"--output-dir", file}, "cannot write to the output directory"},
		"directory without a name":      {"e2e", []string{"--output-dir", ""}, "--output-dir wants a directory"},
		"flag without its value":        {"e2e", []string{"--procs"}, "--procs needs a value"},
		"no processes":                  {"e2e", []string{"--procs", "0"}, "--procs wants a number of at least 1"},
		"warp without a machine":        {"e2e", []string{"--warp"}, "give a kernel with --kernel all=NAME"},
		"timeout that is no time":       {"e2e", []string{"--timeout", "23"}, "--timeout wants a time such as 90s"},
		"times of the guest's clock":    {"e2e", []string{"--poll-progress-after=30s", "--warp", "--kernel", "all=debian-6.1"}, "--poll-progress-after goes by the guest's clock"},
		"kernel that is no file":        {"e2e", []string{"--kernel", "all=/nowhere/vmlinuz"}, "cannot read the kernel image '/nowhere/vmlinuz'"},
		"modules that are nowhere":      {"e2e", []string{"--kernel", "all=debian-6.1,/nowhere"}, "directory of modules '/nowhere'"},
		"two kernels for all":           {"e2e", []string{"--kernel", "all=debian-6.1", "--kernel=all=debian-6.12"}, "hack/matrix runs the suite on several"},
		"kernels for all and for one":   {"e2e", []string{"--kernel", "all=debian-6.1", "--kernel", "lb=debian-6.12"}, "do not go together"},
		"race on another kernel":        {"e2e", []string{"--kernel", "all=debian-6.1", "--race"}, "--race needs libraries"},
		"word that belongs to no flag":  {"e2e", []string{"-v", "timewait"}, "'timewait' belongs to no flag"},

		"soak of no number":             {"soak", nil, "how many runs?"},
		"soak of no runs":               {"soak", []string{"0"}, "'0' is no number of runs of at least 1"},
		"soak of nothing":               {"soak", []string{"--no-unit", "--no-e2e", "3"}, "leave nothing to run"},
		"soak with a flag of the suite": {"soak", []string{"--label-filter", "!slow", "3"}, "flags of hack/e2e stand behind the number of runs"},
		"soak of no suite with flags":   {"soak", []string{"--no-e2e", "3", "--race"}, "'--race' is for hack/e2e"},
		"soak with two directories":     {"soak", []string{"3", "--output-dir", "x"}, "--output-dir stands before the number of runs"},
		"soak that cannot write":        {"soak", []string{"--output-dir", "/proc/twlab", "3"}, "cannot write to the output directory"},
		"soak in another's directory":   {"soak", []string{"--output-dir", filepath.Dir(file), "3"}, "has files that hack/soak did not make"},
		"mutations of no such family":   {"mutate", []string{"--family", "tupel"}, `no family "tupel"; there are defaults, `},
		"mutations of no such rule":     {"mutate", []string{"--rule=tuple-newer-stmp"}, "near it are tuple-newer-stamp, "},
		"mutations of a rule of another family": {
			"mutate", []string{"--family", "tuple", "--rule", "clock-none"}, `no rule "clock-none" in family tuple`,
		},
		"mutations of a rule without a name": {"mutate", []string{"--rule"}, "--rule needs a name"},
		"mutations of a flag as a name":      {"mutate", []string{"--family", "--quick"}, "--family needs a name"},
		"mutations with a kernel for one":    {"mutate", []string{"--kernel", "lb=debian-6.1"}, "use --kernel all=NAME"},
		"mutations by a label filter":        {"mutate", []string{"--label-filter=rule:x"}, "the label filter is taken; use --family, --rule and --quick"},

		"matrix of nothing":              {"matrix", nil, "which kernels?"},
		"matrix with a flag of the run":  {"matrix", []string{"--label-filter", "!slow"}, "flags of hack/e2e go behind --"},
		"matrix that cannot write":       {"matrix", []string{"--output-dir", "/proc/twlab", "running"}, "cannot write to '/proc/twlab'"},
		"matrix with one kernel twice":   {"matrix", []string{"--output-dir", t.TempDir(), "running", "running"}, "'running' is given twice"},
		"matrix of no jobs":              {"matrix", []string{"--output-dir", t.TempDir(), "--jobs", "0", "running"}, "--jobs wants a number of at least 1"},
		"matrix of no results":           {"matrix", []string{"--results"}, "--results wants directories"},
		"matrix of results that is run":  {"matrix", []string{"--results", "--warp", "results"}, "--results runs nothing"},
		"matrix of results with filters": {"matrix", []string{"--results", "results", "--", "-v"}, "--results runs nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			script := "hack/" + c.script
			out, err := exec.CommandContext(t.Context(), "./"+c.script, c.arguments...).CombinedOutput()
			if err == nil {
				t.Fatalf("it ran:\n%s", out)
			}
			said := strings.TrimSpace(string(out))
			if !strings.HasPrefix(said, script+": ") || !strings.Contains(said, c.want) || strings.Contains(said, "\n") {
				t.Errorf("%q\nis not one line with %q", said, c.want)
			}
		})
	}
}
