//go:build linux

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	confined "twlab/harness/sandbox"

	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	if code, isInit := confined.Init(); isInit {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// all are the commands that people call, as they call them.
func all(c *cobra.Command) (lines [][]string) {
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			lines = append(append(lines, strings.Fields(sub.CommandPath())[1:]), all(sub)...)
		}
	}
	return lines
}

func TestEverySubcommandHelps(t *testing.T) {
	lines := all(program())
	const least = 9
	if len(lines) < least {
		t.Fatalf("only %q", lines)
	}
	for _, line := range lines {
		for _, flag := range []string{"--help", "-h", "-help"} {
			var out, said bytes.Buffer
			status := run(t.Context(), append(line, flag), &out, &said)
			if status != 0 || said.Len() > 0 || out.Len() == 0 {
				t.Errorf("%q %s: status %d, %q, %q", line, flag, status, &out, &said)
			}
			if text := out.String(); len(line) == 1 && !strings.Contains(text, "\n  twlab "+line[0]) && !strings.Contains(text, "\n  hack/"+line[0]) {
				t.Errorf("%q %s has no example:\n%s", line, flag, text)
			}
		}
	}
}

func TestExitStatuses(t *testing.T) {
	for line, want := range map[string]int{
		"--help": 0, "": 2, "load": 2, "--version": 2, "kernels boot": 2, "sandbox": 125, "ask": 2, "completion bash": 0, "completion fish": 0,
	} {
		var out, said bytes.Buffer
		if status := run(t.Context(), strings.Fields(line), &out, &said); status != want {
			t.Errorf("%q: status %d, want %d: %s", line, status, want, &said)
		}
	}
}
