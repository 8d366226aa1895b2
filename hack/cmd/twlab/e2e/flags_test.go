package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
)

func TestACommandLineIsReadAsGinkgoReadsIt(t *testing.T) {
	image := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]Request{
		"":                                   {},
		"-procs 3 --timeout=1h30m -race":     {Procs: 3, Timeout: "1h30m", Race: true},
		"--label-filter !slow -v --repeat=2": {LabelFilter: "!slow", ginkgo: []string{"--v=true", "--repeat=2"}},
		"--focus a --focus b -vv=false":      {ginkgo: []string{"--focus=a", "--focus=b", "--vv=false"}},
		"--dry-run -- -mutate=all --x":       {dryRun: true, ginkgo: []string{"--dry-run=true"}, Suite: []string{"-mutate=all", "--x"}},
		"--sleep-on-failure 3s":              {guestClock: "--sleep-on-failure", ginkgo: []string{"--sleep-on-failure=3s"}},
		"--kernel all=debian-6.1 --virtual-time --label-filter virtual-time --sysctl a=1": {
			Kernel: "debian-6.1", VirtualTime: "true", LabelFilter: "virtual-time", Sysctls: []string{"a=1"},
		},
		"--kernel=all=" + image + ",/ --virtual-time=auto": {Kernel: image + ",/", VirtualTime: "auto"},
		"--kernel balancer=x --kernel client=/y,/z":        {Kernels: []string{"balancer=x", "client=/y,/z"}},
		"--cell " + image + " --output-dir x":              {Cell: image, Output: "x"},
		"--cpuprofile x --fail-fast --no-color":            {ginkgo: []string{"--cpuprofile=x", "--fail-fast=true", "--no-color=true"}},
	} {
		got, err := Parse(strings.Fields(line), nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, %v, want\n%+v", line, got, err, want)
		}
	}
}

func TestSlipsAreOneLine(t *testing.T) {
	for line, want := range map[string]string{
		"--lable-filter x":                    "unknown flag --lable-filter; near it: --label-filter",
		"--labelFilter x":                     "near it: --label-filter", // as Ginkgo had it once: it would pass by ours
		"--tags x":                            "--tags means nothing here",
		"-r":                                  "--r means nothing here: there is one suite",
		"--nodes 3":                           "--nodes means nothing here: say --procs",
		"--repeat x":                          "--repeat 'x': ",
		"--focus":                             "--focus needs a value",
		"x":                                   "'x' belongs to no flag",
		"--virtual-time=maybe --kernel all=x": "--virtual-time=maybe: want --virtual-time or --virtual-time=auto",
		"--kernel all=x --label-filter virtual-time": "add --virtual-time",
		"--kernel nobody=x":                          "roles are client, gateway, balancer and server",
		"--kernel all=":                              "wants the name or path of a kernel",
		"--sysctl a=1":                               "--sysctl is for machines",
		"--cell /nowhere":                            "cannot read the cells in '/nowhere'",
		"--cell / ":                                  "cannot read the cells in '/'",
	} {
		_, err := Parse(strings.Fields(line), nil)
		var slip cli.UsageError
		if !errors.As(err, &slip) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", line, err, want)
		}
	}
	for _, help := range []string{"--help", "-h", "--procs 3 -help"} {
		if _, err := Parse(strings.Fields(help), nil); !errors.Is(err, ErrHelp) {
			t.Errorf("%s: %v, want ErrHelp", help, err)
		}
	}
}

func TestFlagsCanBeLeftOut(t *testing.T) {
	r, err := Parse(strings.Fields("-v --repeat 3 --focus v --p"), nil)
	if got, want := r.without("repeat", "v", "p"), []string{"--focus=v"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
