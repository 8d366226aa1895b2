//go:build linux

package program_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/internal/program"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// shell starts a shell in a namespace of its own, which runs a script.
func shell(t *testing.T, s program.Spec, text string) (*program.Program, *program.Log) {
	t.Helper()
	space := nstest.New(t)
	script, err := program.InMemory("script", func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	if s.Log, err = program.NewLog("sh"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Log.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Path, s.Args, s.Files = "/bin/sh", []string{program.FilePath(program.FirstFile)}, []*os.File{script}
	p, err := program.Start(space.Do, s)
	if err != nil {
		t.Fatal(err)
	}
	return p, s.Log
}

func await(t *testing.T, event string, seen func() (bool, error)) {
	t.Helper()
	within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := observe.Await(within, event, seen); err != nil {
		t.Fatal(err)
	}
}

func TestProgramReadsWhatItIsHandedInsideOfTheNamespace(t *testing.T) {
	p, said := shell(t, program.Spec{}, "readlink /proc/self/ns/net; echo to standard error >&2; exit 7\n")
	<-p.Ended()
	log, err := said.Text()
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
	if all, err := p.Look(); err != nil || len(all) > 0 {
		t.Errorf("%+v, %v; it has ended", all, err)
	}
}

// An end that was asked for is no failure; a crash is one, asked for or not.
func TestAnEndThatWasAskedForIsNoFailure(t *testing.T) {
	for signal, fails := range map[unix.Signal]bool{unix.SIGTERM: false, unix.SIGSEGV: true} {
		p, _ := shell(t, program.Spec{}, "exec sleep 1000\n")
		p.Dismiss()
		if err := p.Signal(signal); err != nil {
			t.Fatal(err)
		}
		<-p.Ended()
		if err := p.Close(); (err != nil) != fails || fails && !errors.Is(err, topo.ErrEnded) {
			t.Errorf("%v: %v, want an error: %v", signal, err, fails)
		}
	}
	p, _ := shell(t, program.Spec{}, "exec sleep 1000\n")
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	if err := p.Close(); !errors.Is(err, topo.ErrEnded) {
		t.Errorf("SIGTERM that nobody asked for: %v, want ErrEnded", err)
	}
}

// A family is seen, and ends with its first member, even where it is stopped.
func TestFamilyEndsWithTheProgram(t *testing.T) {
	p, _ := shell(t, program.Spec{Family: true}, "sleep 1000 & sleep 1001 & wait\n")
	var all []program.Process
	await(t, "a family of three", func() (_ bool, err error) {
		all, err = p.Look()
		return len(all) == 3, err
	})
	child := all[1].PID
	if all[0].PID != p.PID() || all[1].Parent != p.PID() || all[1].Paused {
		t.Errorf("%+v, want %d and its children", all, p.PID())
	}
	if err := unix.Kill(child, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "a child to be paused", func() (_ bool, err error) {
		all, err = p.Look()
		return all[1].Paused && !all[2].Paused, err
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(child, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("kill 0 says %v: a child is still there", err)
	}
}

func TestProgramThatIsNotThereLeavesNothing(t *testing.T) {
	space := nstest.New(t)
	log, err := program.NewLog("all")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := program.Start(space.Do, program.Spec{Path: "/nowhere/at/all", Log: log}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "start all: ") {
		t.Errorf("%v, want what was not started", err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
