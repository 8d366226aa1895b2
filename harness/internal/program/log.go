//go:build linux

package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Log is what one program, or several, have written. It is a file in memory. The caller of
// [NewLog] must Close it.
type Log struct{ file *os.File }

// NewLog makes an empty log.
func NewLog(name string) (*Log, error) {
	file, err := InMemory("log of "+name, func(io.Writer) error { return nil })
	if err != nil {
		return nil, err
	}
	// A program may open it again by its path, with an offset of its own.
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: O_APPEND: %w", file.Name(), err), file.Close())
	}
	return &Log{file: file}, nil
}

// Text returns what has been written so far.
func (l *Log) Text() (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(l.file, 0, 1<<62))
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.file.Name(), err)
	}
	return string(text), nil
}

// Close closes the log.
func (l *Log) Close() error { return l.file.Close() }

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

// Rewrite replaces the text of a file of [InMemory], for a program that reads it again.
func Rewrite(file *os.File, text string) error {
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("%s: %w", file.Name(), err)
	}
	if _, err := file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("%s: %w", file.Name(), err)
	}
	return nil
}
