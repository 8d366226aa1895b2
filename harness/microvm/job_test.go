package microvm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/labtest"
	"twlab/harness/microvm"
	"twlab/harness/microvm/agent"
)

func job(t *testing.T, script string) (microvm.Job, *strings.Builder) {
	t.Helper()
	c := config(t, labtest.Kernel(t))
	output := &strings.Builder{}
	return microvm.Job{
		Host: c.Host, Kernel: c.Kernel,
		Argv:    []string{"/bin/sh", "-c", script},
		Files:   []string{"/bin/sleep", "/bin/uname"},
		Env:     []string{"PATH=/bin:/usr/sbin"},
		Results: t.TempDir(), Output: output,
	}, output
}

// What a command prints and leaves comes back, and so does its exit status, also
// when an orphan would go on for ever.
func TestJob(t *testing.T) {
	j, output := job(t, "read fin </proc/sys/net/ipv4/tcp_fin_timeout; test $fin = 7 || exit 2; uname -r; iptables -t nat -L >/dev/null || exit 1; sleep 1000000 & echo done >\"$0\"; exit 7")
	j.Argv = append(j.Argv, filepath.Join(j.Results, "file"))
	j.Sysctls = []agent.SysctlValue{{Name: "net.ipv4.tcp_fin_timeout", Value: "7"}}
	brought, long := filepath.Join(j.Results, "brought"), time.Unix(1_000_000_000, 0)
	if err := errors.Join(os.WriteFile(brought, nil, 0o600), os.Chtimes(brought, long, long)); err != nil {
		t.Fatal(err)
	}
	j.Files = append(j.Files, brought)
	status, err := microvm.Run(t.Context(), j)
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

func TestWarp(t *testing.T) {
	j, output := job(t, "sleep 600")
	j.Warp = true
	began := time.Now()
	status, err := microvm.Run(t.Context(), j)
	if took := time.Since(began); err != nil || status != 0 || took > 5*time.Minute {
		t.Errorf("ten minutes took %v: status %d, %v\n%s", took, status, err, output)
	}
}

func TestJobOfAMachineThatDies(t *testing.T) {
	j, _ := job(t, "echo c >/proc/sysrq-trigger; sleep 1000")
	_, err := microvm.Run(t.Context(), j)
	// The trace of the stack, whose end has room in the error on every kernel.
	if err == nil || !strings.Contains(err.Error(), "before its command did") || !strings.Contains(err.Error(), "RIP: ") {
		t.Errorf("%v\ndoes not show how it died", err)
	}
}
