//go:build linux

package child_test

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"twlab/harness/child"
	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// The end of a child is told to whoever asks, as often as they ask.
func TestWaitSaysTheSameEveryTime(t *testing.T) {
	wait, err := child.Start(exec.CommandContext(t.Context(), "sh", "-c", "exit 7"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ended := make(chan error, 1)
		go func() { ended <- wait() }()
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Errorf("%v, want exit status 7", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for ever")
		}
	}
}
