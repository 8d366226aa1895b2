//go:build linux

package program_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"twlab/harness/internal/nstest"
	"twlab/harness/internal/program"
	"twlab/harness/topo"
)

func TestProgramReadsWhatItIsHandedInsideOfTheNamespace(t *testing.T) {
	space := nstest.New(t)
	script, err := program.InMemory("script", func(w io.Writer) error {
		_, err := io.WriteString(w, "readlink /proc/self/ns/net; echo to standard error >&2; exit 7\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	p, err := program.Start(space.Do, program.Spec{
		Path: "/bin/sh", Args: []string{program.FilePath(program.FirstFile)}, Files: []*os.File{script},
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	log, err := p.Log()
	ours, linkErr := os.Readlink("/proc/thread-self/ns/net")
	if err != nil || linkErr != nil {
		t.Fatal(err, linkErr)
	}
	if !strings.HasPrefix(log, "net:[") || strings.HasPrefix(log, ours) || !strings.HasSuffix(log, "]\nto standard error\n") {
		t.Errorf("log %q, want another namespace than %s, and standard error", log, ours)
	}
	if err := p.Close(); !errors.Is(err, topo.ErrEnded) || !strings.Contains(err.Error(), "sh: program has ended: exit status 7; the end of its log:\n\tnet:[") {
		t.Errorf("close: %v, want how it ended", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestProgramThatIsNotThereLeavesNothing(t *testing.T) {
	space := nstest.New(t)
	if _, err := program.Start(space.Do, program.Spec{Path: "/nowhere/at/all"}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start all: ") {
		t.Errorf("%v, want what was not started", err)
	}
}
