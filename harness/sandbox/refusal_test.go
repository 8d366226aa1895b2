//go:build linux

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRefusalNamesItsCause(t *testing.T) {
	const namespaces, mounts = "make namespaces", "make mounts private"
	// What machines look like that forbid nothing.
	debian := map[string]string{"kernel.unprivileged_userns_clone": "1", "user.max_user_namespaces": "63000"}
	ubuntu := map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "0", "user.max_user_namespaces": "63000"}
	for name, c := range map[string]struct {
		refusal refusal
		machine map[string]string
		change  string // sysctl=value; secret: root's eyes only
		root    bool
		want    string
	}{
		"Debian": {
			refusal{Step: namespaces, Errno: unix.EPERM}, debian, "kernel.unprivileged_userns_clone=0", false,
			"because kernel.unprivileged_userns_clone is 0: run 'sudo sysctl -w kernel.unprivileged_userns_clone=1', or run this as root",
		},
		"RHEL": {
			refusal{Step: namespaces, Errno: unix.ENOSPC}, debian, "user.max_user_namespaces=0", false,
			"because user.max_user_namespaces is 0: run 'sudo sysctl -w user.max_user_namespaces=15000', or run this as root",
		},
		"no networks": {
			refusal{Step: namespaces, Errno: unix.ENOSPC}, debian, "user.max_net_namespaces=0", false,
			"because user.max_net_namespaces is 0: run 'sudo sysctl -w user.max_net_namespaces=15000'",
		},
		"Ubuntu refuses to start PID 1": {
			refusal{Step: namespaces, Errno: unix.EACCES}, ubuntu, "kernel.apparmor_restrict_unprivileged_userns=1", false,
			"because kernel.apparmor_restrict_unprivileged_userns is 1: run 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'",
		},
		"Ubuntu takes the capabilities away": {
			refusal{Step: mounts, Errno: unix.EACCES}, ubuntu, "kernel.apparmor_restrict_unprivileged_userns=1", false,
			"because kernel.apparmor_restrict_unprivileged_userns is 1: run",
		},
		"Ubuntu and a secret": {
			refusal{Step: mounts, Errno: unix.EACCES}, ubuntu, "kernel.apparmor_restrict_unprivileged_userns=secret", false,
			"probably because kernel.apparmor_restrict_unprivileged_userns is 1: run",
		},
		"container": {
			refusal{Step: namespaces, Errno: unix.EPERM}, debian, "", true,
			"by no sysctl; a container or its seccomp filter does that: run this outside of it, start the container with --privileged, or give root CAP_SYS_ADMIN",
		},
		"container with a masked /proc": {
			refusal{Step: mountProc, Errno: unix.EPERM}, debian, "kernel.unprivileged_userns_clone=0", true,
			"the /proc outside is partly covered",
		},
		"too many": {
			refusal{Step: namespaces, Errno: unix.ENOSPC}, debian, "", false,
			"this user has too many namespaces",
		},
		"no /run": {
			refusal{Step: "mount /run", Errno: unix.ENOENT}, debian, "user.max_user_namespaces=0", false,
			"mount /run: no such file or directory",
		},
		"the command": {
			refusal{Step: startCommand + "/bin/x", Errno: unix.EACCES}, debian, "user.max_user_namespaces=0", false,
			"start /bin/x: permission denied",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sysctl, value, _ := strings.Cut(c.change, "=")
			err := c.refusal.explain(c.root, func(name string) (string, error) {
				if name == sysctl && value == "secret" {
					return "", fs.ErrPermission
				}
				if name == sysctl {
					return value, nil
				}
				if value, ok := c.machine[name]; ok {
					return value, nil
				}
				return "", fs.ErrNotExist
			})
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got:  %v\nwant: %s", err, c.want)
			}
			if !errors.Is(err, c.refusal.Errno) {
				t.Errorf("%v does not wrap %v", err, c.refusal.Errno)
			}
		})
	}
}

func TestRefusalGoesThroughThePipe(t *testing.T) {
	for _, sent := range []*refusal{
		refusedAt("mount /run", unix.EACCES),
		refusedAt("bring up the loopback device", errors.New("no such thing")),
	} {
		var pipe bytes.Buffer
		if err := json.NewEncoder(&pipe).Encode(sent); err != nil {
			t.Fatal(err)
		}
		var got *refusal
		if err := readFailure(&pipe); !errors.As(err, &got) || *got != *sent {
			t.Errorf("sent %+v, got %+v (%v)", *sent, got, err)
		}
	}
	if err := readFailure(strings.NewReader("")); err != nil {
		t.Errorf("PID 1 had nothing to say, but: %v", err)
	}
	if err := readFailure(strings.NewReader("panic: ")); err == nil {
		t.Error("half a word passed for success")
	}
}
