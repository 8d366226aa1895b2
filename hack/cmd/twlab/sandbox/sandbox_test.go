package sandbox

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/ns"
	"twlab/harness/sandbox"
)

func TestMain(m *testing.M) {
	if code, isInit := sandbox.Init(); isInit {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	for _, argv := range [][]string{nil, {"--"}, {"--help"}, {"-x", "true"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), argv, &stderr); code != notRun || !strings.HasPrefix(stderr.String(), "usage: sandbox ") {
			t.Errorf("%q: exit code %d, %q", argv, code, stderr.String())
		}
	}
}

// inNamespace runs the program where the test may change what it takes for the
// host, which is the thread's namespace.
func inNamespace(t *testing.T, argv ...string) (space *ns.Namespace, code func() (int, string)) {
	t.Helper()
	space, err := ns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN: run it with hack/test")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return space, func() (code int, complaint string) {
		var stderr bytes.Buffer
		err := space.Do(func() error {
			code = run(t.Context(), argv, &stderr)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return code, stderr.String()
	}
}

func TestExitCode(t *testing.T) {
	for name, c := range map[string]struct {
		argv []string
		code int
		says string
	}{
		"success":         {[]string{"true"}, 0, ""},
		"with --":         {[]string{"--", "sh", "-c", "exit 7"}, 7, ""},
		"without --":      {[]string{"sh", "-c", "exit 7"}, 7, ""},
		"arguments":       {[]string{"--", "test", "--", "=", "--"}, 0, ""},
		"killed":          {[]string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		"no such program": {[]string{"twlab-no-such-program"}, notRun, `sandbox: exec: "twlab-no-such-program": executable file not found in $PATH`},
	} {
		t.Run(name, func(t *testing.T) {
			_, run := inNamespace(t, c.argv...)
			code, complaint := run()
			if code != c.code || strings.TrimSpace(complaint) != c.says {
				t.Errorf("exit code %d, %q; want %d, %q", code, complaint, c.code, c.says)
			}
		})
	}
}

func TestHostChange(t *testing.T) {
	ready, proceed := t.TempDir()+"/ready", t.TempDir()+"/proceed"
	if err := errors.Join(unix.Mkfifo(ready, 0o600), unix.Mkfifo(proceed, 0o600)); err != nil {
		t.Fatal(err)
	}
	space, run := inNamespace(t, "sh", "-c", "echo >"+ready+"; read line <"+proceed+"; exit 3")
	changed := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(ready)
		changed <- errors.Join(err,
			space.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte("99"), 0) }),
			os.WriteFile(proceed, []byte("\n"), 0))
	}()
	code, complaint := run()
	if code == notRun {
		t.Fatal(complaint) // and nobody waits at the other end of the fifo
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	if code != hostChanged {
		t.Errorf("exit code %d, want %d", code, hostChanged)
	}
	for _, want := range []string{
		"the host changed during the run, which ended with 3:",
		"\n  - sysctl net.ipv4.ip_default_ttl = 64\n",
		"\n  + sysctl net.ipv4.ip_default_ttl = 99\n",
	} {
		if !strings.Contains(complaint, want) {
			t.Errorf("it does not say %q: %s", want, complaint)
		}
	}
}
