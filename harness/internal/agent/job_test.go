//go:build linux

package agent

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A job that cannot wait for its command says so, though the command lives on and
// holds the output open.
func TestJobThatCannotWait(t *testing.T) {
	j := Job{Argv: []string{"/bin/sh", "-c", "exec sleep 1000"}}
	report := &archive{tar: tar.NewWriter(io.Discard)}
	broken := errors.New("wait is broken")
	child, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		_, err := j.run(strings.NewReader(""), report, func(pid int) (int, error) {
			child <- pid
			return 0, broken
		})
		ended <- err
	}()
	pid := <-child
	defer func() {
		var how unix.WaitStatus
		if _, err := unix.Wait4(pid, &how, 0, nil); err != nil {
			t.Error(err)
		}
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, broken) {
			t.Errorf("%v, want %v", err, broken)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the end of the output")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
}
