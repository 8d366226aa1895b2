//go:build linux

package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnoughMemory(t *testing.T) {
	const meminfo = "MemTotal:       8000000 kB\nMemAvailable:    819200 kB\n" // 800 MiB
	for name, c := range map[string]struct {
		owed, machines, memory int
		says                   string // empty when there is room
	}{
		"one":                           {0, 1, 192, ""},
		"one too many":                  {0, 1, 700, "another machine: it takes 828 MiB, and 800 are available, of which the running machines will take 0"},
		"two":                           {0, 2, 192, ""},
		"three, each of which has room": {0, 3, 192, "3 machines: they take 960 MiB, and 800 are available"},
		"one beside those that run":     {480, 1, 192, ""},
		"one too many beside those":     {481, 1, 192, "it takes 320 MiB, and 800 are available, of which the running machines will take 481"},
	} {
		err := enoughOf(meminfo, c.owed, c.machines, c.memory)
		if c.says == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.says != "" && (!errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// What a machine was promised is gone, though it has not taken it yet.
func TestMemoryThatRunningMachinesHaveNotTaken(t *testing.T) {
	proc := t.TempDir()
	page := os.Getpagesize()
	for pid, c := range map[int]struct {
		command  string
		resident int // MiB
	}{
		10: {"/usr/bin/qemu-system-x86_64\x00-nodefaults\x00-m\x00192\x00", 100},   // 220 to come
		11: {"qemu-system-x86_64\x00-m\x00192\x00", 400},                           // more than was promised
		12: {"qemu-system-x86_64\x00-m\x00size=1G\x00", 0},                         // somebody else's
		13: {"sleep\x00-m\x00192\x00", 0},                                          // no machine
		14: {"qemu-system-x86_64\x00-m\x00", 0}, 15: {"", 0}, 16: {"-m\x00192", 0}, // odd
	} {
		dir := filepath.Join(proc, fmt.Sprint(pid))
		statm := fmt.Sprintf("999999 %d 1 1 0 1 0\n", c.resident<<20/page)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "cmdline"), []byte(c.command), 0o600),
			os.WriteFile(filepath.Join(dir, "statm"), []byte(statm), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if owed, err := owedMiB(proc); err != nil || owed != 192+overheadMiB-100 {
		t.Errorf("owed %d MiB, %v, want %d", owed, err, 192+overheadMiB-100)
	}
}
