//go:build linux

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoMemory means that the host has too little memory for another machine.
var ErrNoMemory = errors.New("not enough memory")

// overheadMiB is what a machine needs in addition to its own memory: QEMU itself, with the
// code that it has translated.
const overheadMiB = 128

// EnoughMemory checks whether there is memory for this many more machines, before they make
// the kernel swap or kill a process. A machine takes its memory when it first writes to it,
// so what running machines have not taken yet does not count as available. The error wraps
// [ErrNoMemory].
func (h Host) EnoughMemory(machines int) error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("memory of the host: %w", err)
	}
	owed, err := owedMiB("/proc")
	if err != nil {
		return fmt.Errorf("memory of other machines: %w", err)
	}
	memory := h.MemoryMiB
	if memory == 0 {
		memory = DefaultMemory
	}
	return enoughOf(string(text), owed, machines, memory)
}

func enoughOf(meminfo string, owed, machines, memory int) error {
	needed := machines * (memory + overheadMiB)
	for text := range strings.Lines(meminfo) {
		var kB int
		if n, _ := fmt.Sscanf(text, "MemAvailable: %d kB", &kB); n == 0 || kB>>10 >= needed+owed {
			continue
		}
		who := "another machine: it takes"
		if machines > 1 {
			who = fmt.Sprintf("%d machines: they take", machines)
		}
		return fmt.Errorf("%w for %s %d MiB, and %d are available, of which the running machines will take %d; run fewer at a time",
			ErrNoMemory, who, needed, kB>>10, owed)
	}
	return nil
}

// owedMiB returns the memory that the running machines, of this and of other processes,
// have been given but have not taken yet, according to /proc.
func owedMiB(proc string) (owed int, err error) {
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		promised := promisedMiB(strings.Split(string(text), "\x00"))
		if promised == 0 {
			continue
		}
		taken, err := residentMiB(filepath.Join(filepath.Dir(file), "statm"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		owed += max(0, promised+overheadMiB-taken)
	}
	return owed, nil
}

// promisedMiB returns the memory of the machine that a command line starts, as [Plan]
// writes it; 0 for every other command line.
func promisedMiB(arguments []string) int {
	if !strings.HasPrefix(filepath.Base(arguments[0]), "qemu-system-") {
		return 0
	}
	for i, word := range arguments[:len(arguments)-1] {
		if word == "-m" {
			n, _ := strconv.Atoi(arguments[i+1]) // 0 when Plan did not write it
			return n
		}
	}
	return 0
}

// residentMiB reads proc_pid_statm(5): the second number is the pages in memory.
func residentMiB(statm string) (int, error) {
	text, err := os.ReadFile(statm)
	if err != nil {
		return 0, err
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("%s: %w", statm, err)
	}
	return resident * os.Getpagesize() >> 20, nil
}
