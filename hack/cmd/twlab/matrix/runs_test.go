package matrix

import (
	"errors"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
)

func TestWhyARunWasRed(t *testing.T) {
	const said = "hack/e2e: 1\n• [FAIL] 2\nother\nsandbox: 3\nRan 4 of 5\nhack/e2e: 5\nhack/e2e: 6\n"
	if got, want := why(said), "  • [FAIL] 2\n  sandbox: 3\n  Ran 4 of 5\n  hack/e2e: 5\n  hack/e2e: 6\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRoomForRuns(t *testing.T) {
	if got := available("MemTotal: 9 kB\nMemAvailable:   5242880 kB\n"); got != 5242880 {
		t.Error(got)
	}
	if got := available("MemTotal: 9 kB\n"); got != 0 {
		t.Error(got)
	}
}

func TestCommandLines(t *testing.T) {
	dir := t.TempDir()
	for line, want := range map[string]string{
		"":                         "which kernels?",
		"running":                  "",
		"running debian-6.1 -- -v": "",
		"--virtual-time x":         "",
		"--virtual-time=maybe x":   "--virtual-time=maybe: want --virtual-time or --virtual-time=auto",
		"a/b a-b":                  "kernel 'a-b' is given twice", // by their directories
		"--jobs 0 x":               "--jobs wants a number of at least 1",
		"x -- --output-dir y":      "give them and the kernels before --",
		"x -- --kernel balancer=y": "give them and the kernels before --",
		"x -- y":                   "'y' belongs to no flag",
		"--results":                "--results wants directories",
		"--results --jobs 2 x":     "--results runs nothing",
		"--results x -- -v":        "--results runs nothing",
		"--results x":              "",
	} {
		c, o := command()
		if err := c.ParseFlags(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		o.output = dir
		err := o.take(c, c.Flags().Args())
		var slip cli.UsageError
		if want == "" && err == nil {
			continue
		}
		if !errors.As(err, &slip) || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
