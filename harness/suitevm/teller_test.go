//go:build linux

package suitevm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/vm"
)

// mute is the line of a machine that lives as long as it may and says nothing. It
// notes what it is told, other than to say that it is alive.
type mute struct {
	net.Conn
	began time.Time
	told  []string
}

func (m *mute) Write(words []byte) (int, error) {
	for _, word := range words {
		if word != agent.Ping {
			m.note(string(word))
		}
	}
	return len(words), nil
}

func (m *mute) note(what string) {
	m.told = append(m.told, fmt.Sprintf("%s after %v", what, time.Since(m.began)))
}

// tellFor tells such a machine of the job for a time.
func tellFor(j Job, during time.Duration) (told []string, err error) {
	m := &mute{began: time.Now()}
	t := &teller{job: j, machine: &vm.Process{Line: m, Stop: func() { m.note("stop") }}, finished: make(chan struct{})}
	time.AfterFunc(during, func() { close(t.finished) })
	t.tell()
	return m.told, t.timeout()
}

func TestAMachineWhoseTimeIsOver(t *testing.T) {
	j := Job{Timeout: time.Hour, Grace: 10 * time.Second}
	for _, c := range []struct {
		name   string
		during time.Duration
		want   []string
		err    error
	}{
		{"is told nothing before", time.Hour - time.Second, nil, nil},
		{"is interrupted", time.Hour + time.Second, []string{"i after 1h0m0s"}, ErrTimeout},
		{
			"is killed when it goes on, and then stopped", 2 * time.Hour,
			[]string{"i after 1h0m0s", "k after 1h0m10s", "stop after 1h0m20s"}, ErrTimeout,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				words, err := tellFor(j, c.during)
				if !slices.Equal(words, c.want) || !errors.Is(err, c.err) {
					t.Errorf("told %q, %v; want %q, %v", words, err, c.want, c.err)
				}
			})
		})
	}
}

func TestAMachineWithoutATimeoutIsStoppedByTheThirdInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interrupts := make(chan os.Signal, mostInterrupts)
		for range mostInterrupts {
			interrupts <- unix.SIGINT
		}
		words, err := tellFor(Job{Interrupts: interrupts}, 1000*time.Hour)
		if want := []string{"i after 0s", "i after 0s", "stop after 0s"}; !slices.Equal(words, want) || err != nil {
			t.Errorf("told %q, %v; want %q", words, err, want)
		}
	})
}
