//go:build linux

package suitevm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/internal/agent"
	"twlab/harness/internal/labtest"
	"twlab/harness/leak"
	"twlab/harness/suitevm"
)

var guestAgent = labtest.NewAgent()

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

func job(t *testing.T, script string) (suitevm.Job, *strings.Builder) {
	t.Helper()
	k := labtest.Kernel(t)
	path, err := guestAgent.Path()
	if err != nil {
		t.Fatal(err)
	}
	output := &strings.Builder{}
	j := suitevm.Job{
		Kernel:  k,
		Argv:    []string{"/bin/sh", "-c", script},
		Files:   []string{"/bin/sleep", "/bin/uname"},
		Env:     []string{"PATH=/bin:/usr/sbin"},
		Results: t.TempDir(), Output: output,
	}
	j.Agent, j.Accelerator = path, guest.TCG
	return j, output
}

// What a command prints and leaves comes back, and so does its exit status, also
// when an orphan would go on for ever.
func TestJob(t *testing.T) {
	j, output := job(t, "read fin </proc/sys/net/ipv4/tcp_fin_timeout; test $fin = 7 || exit 2; uname -r; iptables -t nat -L >/dev/null 2>&1 || exit 1; sleep 1000000 & echo done >\"$0\"; exit 7")
	j.Argv = append(j.Argv, filepath.Join(j.Results, "file"))
	j.Sysctls = []agent.SysctlValue{{Name: "net.ipv4.tcp_fin_timeout", Value: "7"}}
	brought, long := filepath.Join(j.Results, "brought"), time.Unix(1_000_000_000, 0)
	if err := errors.Join(os.WriteFile(brought, nil, 0o600), os.Chtimes(brought, long, long)); err != nil {
		t.Fatal(err)
	}
	j.Files = append(j.Files, brought)
	status, err := suitevm.Run(t.Context(), j)
	if err != nil || status != 7 {
		t.Fatalf("status %d, %v\n%s", status, err, output)
	}
	release, err := j.Kernel.Release()
	if err != nil || strings.TrimSpace(output.String()) != release.Text {
		t.Errorf("it says %q, want %q (%v)", output, release.Text, err)
	}
	if text, err := os.ReadFile(filepath.Join(j.Results, "file")); string(text) != "done\n" {
		t.Errorf("file %q, %v", text, err)
	}
	if info, err := os.Stat(brought); err != nil || !info.ModTime().Equal(long) {
		t.Errorf("what the machine was given is written again: %v, %v", info, err)
	}
}

func TestVirtualTime(t *testing.T) {
	j, output := job(t, "sleep 600")
	j.VirtualTime = true
	began := time.Now()
	status, err := suitevm.Run(t.Context(), j)
	if took := time.Since(began); err != nil || status != 0 || took > 5*time.Minute {
		t.Errorf("ten minutes took %v: status %d, %v\n%s", took, status, err, output)
	}
}

// overWhenSaid is output of a job whose time is over as soon as it says a word.
type overWhenSaid struct {
	strings.Builder
	word string
	over chan time.Time
}

func (o *overWhenSaid) Write(text []byte) (int, error) {
	n, err := o.Builder.Write(text)
	if o.over != nil && strings.Contains(o.String(), o.word) {
		o.over <- time.Now()
		o.over = nil
	}
	return n, err
}

// timeOver runs a script in a machine where hours pass at once, until one has, and
// returns what it has left in the file $0.
func timeOver(t *testing.T, grace time.Duration, script string) (left string, status int) {
	t.Helper()
	j, _ := job(t, script)
	over := make(chan time.Time, 1)
	output := &overWhenSaid{word: "an hour", over: over}
	file := filepath.Join(j.Results, "file")
	j.Argv, j.Output = append(j.Argv, file), output
	j.VirtualTime, j.Grace = true, grace
	j.TimeOverWith(over)
	status, err := suitevm.Run(t.Context(), j)
	if !errors.Is(err, suitevm.ErrTimeout) {
		t.Errorf("status %d, %v, which is no timeout\n%s", status, err, output)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	return string(text), status
}

// The command is told, whatever the clock of the machine says, and what it leaves
// comes back with its exit status.
func TestTimeout(t *testing.T) {
	const ample = 5 * time.Minute // beside busy processors, a machine took 20 times as long as alone
	left, status := timeOver(t, ample, `trap 'echo done >"$0"; exit 3' INT; while :; do sleep 3600; echo an hour; done`)
	if left != "done\n" || status != 3 {
		t.Errorf("status %d, left %q", status, left)
	}
}

func TestTimeoutOfACommandThatGoesOn(t *testing.T) {
	const killed = 128 + 9
	left, status := timeOver(t, time.Second, `trap '' INT; echo begun >"$0"; while :; do sleep 3600; echo an hour; done`)
	if left != "begun\n" || status != killed {
		t.Errorf("status %d, left %q", status, left)
	}
}

func TestJobOfAMachineThatDies(t *testing.T) {
	j, _ := job(t, "echo c >/proc/sysrq-trigger; sleep 1000")
	_, err := suitevm.Run(t.Context(), j)
	// The trace of the stack, whose end has room in the error on every kernel.
	if err == nil || !strings.Contains(err.Error(), "before its command did") || !strings.Contains(guest.Detailed(err), "RIP: ") {
		t.Errorf("%v\ndoes not show how it died", err)
	}
}
