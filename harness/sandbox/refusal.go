//go:build linux

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Steps whose refusal has an explanation of its own.
const (
	mountProc    = "mount a fresh /proc"
	startCommand = "start " // and the path
)

// refusal describes a step into the sandbox that the kernel refused. PID 1 sends it to the
// caller as JSON.
type refusal struct {
	Step  string
	Errno unix.Errno // 0 when Text has the reason
	Text  string
}

func refusedAt(step string, err error) *refusal {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &refusal{Step: step, Errno: errno}
	}
	return &refusal{Step: step, Text: err.Error()}
}

// readFailure reads the refusal that PID 1 may send before it closes its pipe. It returns
// nil when the command has been started.
func readFailure(from io.Reader) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return fmt.Errorf("read from PID 1: %w", err)
	}
	if len(text) == 0 {
		return nil
	}
	said := new(refusal)
	if err := json.Unmarshal(text, said); err != nil {
		return fmt.Errorf("PID 1 said %q: %w", text, err)
	}
	return said
}

func (r *refusal) Error() string {
	if r.Errno != 0 {
		return r.Step + ": " + r.Errno.Error()
	}
	return r.Step + ": " + r.Text
}

func (r *refusal) Unwrap() error {
	if r.Errno != 0 {
		return r.Errno
	}
	return nil
}

// ofCommand reports whether the sandbox was ready and only the command was refused.
func (r *refusal) ofCommand() bool {
	return strings.HasPrefix(r.Step, startCommand)
}

// settings lists the sysctls that can forbid user namespaces to ordinary users.
var settings = []struct {
	name, forbids, allows string
}{
	{"kernel.unprivileged_userns_clone", "0", "1"},             // Debian's and Arch's kernels
	{"user.max_user_namespaces", "0", "15000"},                 // RHEL 7's default, and a common hardening
	{"user.max_net_namespaces", "0", "15000"},                  // the same for network namespaces
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu since 23.10
}

// readSysctl reads a sysctl by its dotted name.
func readSysctl(name string) (string, error) {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(text)), err
}

// explain turns the refusal into a sentence with its reason and a remedy, if the sysctls
// that read returns show the reason.
func (r *refusal) explain(root bool, read func(name string) (string, error)) error {
	denied := r.Errno == unix.EPERM || r.Errno == unix.EACCES
	limited := r.Errno == unix.ENOSPC
	switch {
	case r.ofCommand():
		return r
	case r.Step == mountProc && denied:
		return fmt.Errorf("the /proc outside is partly covered, as in a container: run this outside of it, "+
			"or start the container with --privileged or --security-opt systempaths=unconfined (%w)", r)
	case !denied && !limited:
		return r
	}
	instead := "run this as root"
	if root {
		instead = "give root CAP_SYS_ADMIN, which it lacks here"
	}
	for _, k := range settings {
		value, err := read(k.name)
		is := "because " + k.name + " is " + value
		switch {
		case errors.Is(err, fs.ErrPermission): // readable only by root, like AppArmor's in Ubuntu 23.10
			is = "probably because " + k.name + " is " + k.forbids
		case err != nil || value != k.forbids: // a setting that this kernel does not have forbids nothing
			continue
		}
		return fmt.Errorf("user namespaces are forbidden here, %s: run 'sudo sysctl -w %s=%s', or %s (%w)",
			is, k.name, k.allows, instead, r)
	}
	if limited {
		return fmt.Errorf("this user has too many namespaces: raise user.max_user_namespaces and its like, or %s (%w)", instead, r)
	}
	return fmt.Errorf("namespaces are forbidden here, and by no sysctl; a container or its seccomp filter does that: "+
		"run this outside of it, start the container with --privileged, or %s (%w)", instead, r)
}
