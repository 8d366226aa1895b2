//go:build linux

// Package program runs a server program inside a namespace, without any file on disk, and
// no longer than this process runs.
//
// The program's input and output are files in memory ([InMemory]), which have no name and
// end with their last descriptor. So a killed process leaves neither programs nor files
// behind.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"twlab/harness/child"
	"twlab/harness/topo"
)

// Spec describes a program to run.
type Spec struct {
	// Path is the program, Args are its arguments, without its name.
	Path string
	Args []string
	// Files are inherited by the program, as descriptors from [FirstFile] on. The caller
	// still owns them.
	Files []*os.File
}

// FirstFile is the number of the first of the Files in the program.
const FirstFile = 3

// FilePath returns the path at which a program finds its own descriptor.
func FilePath(descriptor int) string { return "/proc/self/fd/" + strconv.Itoa(descriptor) }

// Program is a started program. Its methods may be called from any goroutine. The caller of
// [Start] must Close it.
type Program struct {
	name  string
	pid   int
	log   *os.File
	stop  context.CancelFunc
	ended chan struct{} // closed when it has ended
	how   error         // how, once it has

	closing sync.Once
}

// Start starts a program on the thread on which inside runs its function, such as
// ns.Namespace.Do. Its standard output and error are its log; its standard input is empty.
func Start(inside func(func() error) error, s Spec) (*Program, error) {
	name := filepath.Base(s.Path)
	log, err := InMemory("log of "+name, func(io.Writer) error { return nil })
	if err != nil {
		return nil, err
	}
	// The program may open it again by its path, with an offset of its own.
	if _, err := unix.FcntlInt(log.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
		return nil, errors.Join(fmt.Errorf("log of %s: O_APPEND: %w", name, err), log.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, s.Path, s.Args...)
	c.Stdout, c.Stderr = log, log
	c.ExtraFiles = s.Files
	wait, err := child.StartBy(inside, c)
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	p := &Program{name: name, pid: c.Process.Pid, log: log, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.how = wait()
	}()
	return p, nil
}

// PID returns the process id.
func (p *Program) PID() int { return p.pid }

// Ended returns a channel that is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Failure returns nil while the program runs. Afterwards the error wraps [topo.ErrEnded]
// and says how the program ended, with the last lines of its log.
func (p *Program) Failure() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	how := "exit status 0"
	if p.how != nil {
		how = p.how.Error()
	}
	log, err := p.Log()
	if err != nil {
		return fmt.Errorf("%s: %w: %s (%w)", p.name, topo.ErrEnded, how, err)
	}
	return fmt.Errorf("%s: %w: %s; %s", p.name, topo.ErrEnded, how, tail(log))
}

// Log returns what the program has written so far.
func (p *Program) Log() (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(p.log, 0, 1<<62))
	if err != nil {
		return "", fmt.Errorf("log of %s: %w", p.name, err)
	}
	return string(text), nil
}

// Close kills the program and waits until it has ended. The error is that of
// [Program.Failure] when it had ended before. A second Close does nothing.
func (p *Program) Close() (err error) {
	p.closing.Do(func() {
		early := p.Failure()
		p.stop()
		<-p.ended
		err = errors.Join(early, p.log.Close())
	})
	return err
}

// tailLines is the number of log lines that an error contains.
const tailLines = 10

func tail(log string) string {
	lines := slices.Collect(strings.Lines(strings.TrimSpace(log)))
	if len(lines) == 0 {
		return "its log is empty"
	}
	return "the end of its log:\n\t" + strings.Join(lines[max(0, len(lines)-tailLines):], "\t")
}

// InMemory makes a file without a name, for a child process to read.
func InMemory(title string, write func(io.Writer) error) (*os.File, error) {
	fd, err := unix.MemfdCreate(title, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%s: memfd_create: %w", title, err)
	}
	file := os.NewFile(uintptr(fd), title)
	if err := write(file); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", title, err), file.Close())
	}
	return file, nil
}
