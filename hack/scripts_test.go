// Package hack tests what the scripts beside it, and the program behind them, say when they
// cannot go on.
package hack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSuiteSaysWhyItCannotBegin(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]refused{
		"directory that cannot be made": {"e2e", []string{"--output-dir", "/proc/twlab"}, "cannot write to the output directory"},
		"directory that is a file":      {"e2e", []string{"--output-dir", file}, "cannot write to the output directory"},
		"directory without a name":      {"e2e", []string{"--output-dir", ""}, "--output-dir wants a directory"},
		"flag without its value":        {"e2e", []string{"--procs"}, "--procs needs a value"},
		"no processes":                  {"e2e", []string{"--procs", "0"}, "--procs wants a number of at least 1"},
		"virtual without a machine":     {"e2e", []string{"--virtual-time"}, "give a kernel with --kernel all=NAME"},
		"timeout that is no time":       {"e2e", []string{"--timeout", "23"}, "--timeout wants a time such as 90s"},
		"times of the guest's clock":    {"e2e", []string{"--poll-progress-after=30s", "--virtual-time", "--kernel", "all=debian-6.1"}, "--poll-progress-after goes by the guest's clock"},
		"kernel that is no file":        {"e2e", []string{"--kernel", "all=/nowhere/vmlinuz"}, "cannot read the kernel image '/nowhere/vmlinuz'"},
		"modules that are nowhere":      {"e2e", []string{"--kernel", "all=debian-6.1,/nowhere"}, "directory of modules '/nowhere'"},
		"two kernels for all":           {"e2e", []string{"--kernel", "all=debian-6.1", "--kernel=all=debian-6.12"}, "twlab matrix runs the suite on several"},
		"kernels for all and for one":   {"e2e", []string{"--kernel", "all=debian-6.1", "--kernel", "balancer=debian-6.12"}, "do not go together"},
		"race on another kernel":        {"e2e", []string{"--kernel", "all=debian-6.1", "--race"}, "--race needs libraries"},
		"word that belongs to no flag":  {"e2e", []string{"-v", "timewait"}, "'timewait' belongs to no flag"},

		"flag that is mistyped":          {"e2e", []string{"--lable-filter", "!slow"}, "unknown flag --lable-filter; near it: --label-filter"},
		"flag of a build":                {"e2e", []string{"--cover"}, "--cover means nothing here"},
		"flag of a role that is unknown": {"e2e", []string{"--kernel", "proxy=debian-6.1"}, "roles are client, gateway, balancer and server"},
		"filter of cells of one's own":   {"e2e", []string{"--cell", "x", "--label-filter", "slow"}, "--label-filter does not go with cells of your own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.is(t, c.program(t))
		})
	}
}

// The suite is asked which specs it has: it is built once, so one call follows the other.
func TestSuiteSaysThatNothingIsSelected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]refused{
		"label that no spec has":       {"e2e", []string{"--output-dir", dir, "--label-filter", "family:tupel"}, "no spec has the label family:tupel; near it: family:tuple"},
		"focus on nothing":             {"e2e", []string{"--output-dir", dir, "--focus", "TIME_WIAT"}, `no spec is selected by --focus "TIME_WIAT"`},
		"labels without a common spec": {"e2e", []string{"--output-dir", dir, "--label-filter", "shown:tuple && slow"}, `by --label-filter "shown:tuple && slow"; hack/e2e --dry-run`},
		"rule of other kernels":        {"e2e", []string{"--output-dir", dir, "--label-filter", "rule:tuple-older-timestamp-answered-1s"}, "is of other kernels, such as Linux 5.4"},
	} {
		t.Run(name, func(t *testing.T) { c.is(t, c.program(t)) })
	}
}

func TestScriptsSayWhyTheyCannotBegin(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]refused{
		"no such subcommand":            {"weather", nil, `unknown command "weather"; it is one of ask, build, `},
		"subcommand that is mistyped":   {"laod", nil, "near it: load"},
		"question without a file":       {"ask", []string{"--procs", "2"}, "which file?"},
		"question of no file":           {"ask", []string{"/nowhere.yaml"}, "cannot read the cells in '/nowhere.yaml': no such file or directory"},
		"mistyped, with a flag":         {"mutat", []string{"--sample"}, `unknown command "mutat"; near it: mutate`},
		"beginning of rules":            {"mutate", []string{"--rule", "tuple-older"}, "begin so: --rule 'tuple-older*'"},
		"question with a file too many": {"ask", []string{"x", "--cell", "y"}, "--cell means nothing here"},
		"load without an end":           {"load", []string{"--clients", "3"}, "give a number of attempts for each client"},
		"load that is mistyped":         {"load", []string{"--client", "3"}, "near it: --clients"},
		"load with a flag of kernels":   {"load", []string{"--mirror", "x"}, "it belongs to twlab kernels fetch"},
		"load with a word":              {"load", []string{"now"}, `argument "now" belongs to no flag`},
		"kernels without a command":     {"kernels", nil, "want one of fetch, list, path, remove"},
		"doctor with a word":            {"doctor", []string{"now"}, "belongs to no flag"},
		"build into two directories":    {"build", []string{"a", "b"}, "one directory, not 2"},

		"run of nothing":               {"run", nil, "which file?"},
		"run of no file":               {"run", []string{"/nowhere.yaml"}, "no such file or directory"},
		"run on a kernel twice":        {"run", []string{"--kernels", "running,running", "x.yaml"}, "'running' is given twice"},
		"run that keeps a machine":     {"run", []string{"--keep", "--kernel", "all=debian-6.1", "x.yaml"}, "ends with it"},
		"run with a flag that is near": {"run", []string{"--kernals", "running", "x.yaml"}, "near it: --kernel"},

		"show of nothing":           {"show", nil, "which cell? give its family and AXIS=VALUE"},
		"show of no family":         {"show", []string{"tupel", "clock=older"}, "near it: tuple"},
		"show of no axis":           {"show", []string{"tuple", "clok=older"}, "near it: clock"},
		"show of no value":          {"show", []string{"tuple", "clock=odler"}, "near it: older"},
		"show of a family in Go":    {"show", []string{"chance"}, "no scenario file brings this cell about"},
		"show for no such release":  {"show", []string{"--release", "new", "tuple"}, "want MAJOR.MINOR"},
		"explain of no cause":       {"explain", []string{"snat-exhaust"}, "near it: snat-exhausted"},
		"explain of no recording":   {"explain", []string{"/nowhere/run.json"}, "no such file or directory"},
		"diagnose of nothing":       {"diagnose", nil, "which capture?"},
		"diagnose of no capture":    {"diagnose", []string{"--at", "client=" + file}, "this is no capture"},
		"lint of nothing":           {"lint", nil, "which file?"},
		"lint for no such role":     {"lint", []string{"--role", "blancer", "-"}, "near it: balancer"},
		"lint for no such release":  {"lint", []string{"--kernel", "5.20", "-"}, "the last one before 6.0 is 5.19"},
		"lint of a file of nothing": {"lint", []string{file}, "no setting in it"},

		"soak of no number":             {"soak", nil, "how many runs?"},
		"soak of no runs":               {"soak", []string{"0"}, "'0' is no number of runs of at least 1"},
		"soak of nothing":               {"soak", []string{"--no-unit", "--no-e2e", "3"}, "leave nothing to run"},
		"soak with a flag of the suite": {"soak", []string{"--label-filter", "!slow", "3"}, "unknown flag --label-filter"},
		"soak of no suite with flags":   {"soak", []string{"--no-e2e", "3", "--race"}, "'--race' is for hack/e2e"},
		"soak with two directories":     {"soak", []string{"3", "--output-dir", "x"}, "--output-dir stands before the number of runs"},
		"soak that cannot write":        {"soak", []string{"--output-dir", "/proc/twlab", "3"}, "cannot write to the output directory"},
		"soak in another's directory":   {"soak", []string{"--output-dir", filepath.Dir(file), "3"}, "has files that twlab soak did not make"},
		"mutations of no such family":   {"mutate", []string{"--family", "tupel"}, `no family "tupel"; there are defaults, `},
		"mutations of no such rule":     {"mutate", []string{"--rule=tuple-newer-stmp"}, "near it: tuple-newer-timestamp"},
		"mutations of a rule of another family": {
			"mutate", []string{"--family", "tuple", "--rule", "clock-none"}, `no rule "clock-none" in family tuple`,
		},
		"mutations of a rule without a name": {"mutate", []string{"--rule"}, "--rule needs a value"},
		"mutations of a flag as a name":      {"mutate", []string{"--family", "--quick"}, "--family needs a name"},
		"mutations with a kernel for one":    {"mutate", []string{"--kernel", "balancer=debian-6.1"}, "use --kernel all=NAME"},
		"mutations of cells of one's own":    {"mutate", []string{"--cell", "/proc/self/status"}, "--cell means nothing here"},
		"mutations by a label filter":        {"mutate", []string{"--label-filter=rule:x"}, "the label filter is taken; use --family, --rule and --quick"},

		"matrix of nothing":               {"matrix", nil, "which kernels?"},
		"matrix with a flag of the run":   {"matrix", []string{"--label-filter", "!slow"}, "unknown flag --label-filter"},
		"matrix that cannot write":        {"matrix", []string{"--output-dir", "/proc/twlab", "running"}, "cannot write to '/proc/twlab'"},
		"matrix with one kernel twice":    {"matrix", []string{"--output-dir", t.TempDir(), "running", "running"}, "'running' is given twice"},
		"matrix of no jobs":               {"matrix", []string{"--output-dir", t.TempDir(), "--jobs", "0", "running"}, "--jobs wants a number of at least 1"},
		"matrix of no results":            {"matrix", []string{"--results"}, "--results wants directories"},
		"matrix of results that is run":   {"matrix", []string{"--results", "--virtual-time", "results"}, "--results runs nothing"},
		"matrix with a flag too early":    {"matrix", []string{"running", "--procs", "3"}, "unknown flag --procs"},
		"matrix with a flag that is none": {"matrix", []string{"running", "--", "--prosc", "3"}, "near it: --procs"},
		"matrix with its own flag late":   {"matrix", []string{"running", "--", "--virtual-time"}, "give a kernel with --kernel all=NAME"},
		"matrix of results with filters":  {"matrix", []string{"--results", "results", "--", "-v"}, "--results runs nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.is(t, c.program(t))
		})
	}
}

// refused is a call that cannot begin.
type refused struct {
	command   string // "e2e", or a subcommand of twlab
	arguments []string
	want      string // in the one line that says why
}

// program is the call of the program that the scripts become. They have Go look at the whole tree
// before, each time.
func (c refused) program(t *testing.T) *exec.Cmd {
	t.Helper()
	twlab, tree := programAndTree(t)
	call := exec.CommandContext(t.Context(), twlab, append([]string{c.command}, c.arguments...)...) //nolint:gosec // ours
	call.Env = append(os.Environ(), "TWLAB_TREE="+tree)
	return call
}

// Each script becomes the program, and hands on its words as they are.
func TestScriptsBecomeTheProgram(t *testing.T) {
	t.Parallel()
	for script, c := range map[string]refused{
		"./twlab": {"lint", []string{"--role", "blan  cer", "-"}, `no role "blan  cer"`},
		"./e2e":   {"e2e", []string{"time  wait"}, "'time  wait' belongs to no flag"},
		"./build": {"build", []string{"--no  flag"}, "unknown flag --no  flag"},
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			words := c.arguments
			if script == "./twlab" {
				words = append([]string{c.command}, words...)
			}
			c.is(t, exec.CommandContext(t.Context(), script, words...)) //nolint:gosec // ours
		})
	}
}

// is wants a call to be refused with exit status 2, in one line that begins with its name.
func (c refused) is(t *testing.T, call *exec.Cmd) {
	t.Helper()
	name := "twlab " + c.command
	switch c.command {
	case "e2e", "build": // scripts of their own
		name = "hack/" + c.command
	}
	out, err := call.CombinedOutput()
	if err == nil {
		t.Fatalf("it ran:\n%s", out)
	}
	said := strings.TrimSpace(string(out))
	begins := strings.HasPrefix(said, name+": ") || strings.HasPrefix(said, "twlab: unknown command ")
	if !begins || !strings.Contains(said, c.want) || strings.Contains(said, "\n") {
		t.Errorf("%q\nis not one line with %q", said, c.want)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("%v, want exit status 2", err)
	}
}
