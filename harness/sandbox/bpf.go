//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A user namespace takes BPF away even from root. Linux 6.9 gives some of it
// back: whoever has CAP_SYS_ADMIN outside may say of a BPF file system of the
// namespace what may be loaded by those who see it (BPF tokens, commit
// 35f96de04127). So PID 1 opens one, the caller outside says what, as far as the
// kernel lets it, and PID 1 mounts it where it is looked for. When any of that is
// refused the sandbox does without: who wants to load a program is told so then.
// Programs and maps live by the descriptors of those inside and go with them; the
// programs can be attached only where the sandbox has CAP_NET_ADMIN.

// delegated is what may be loaded in a sandbox: maps and programs that look at
// packets on their way in, and nothing else. The numbers are those of
// include/uapi/linux/bpf.h.
var delegated = []struct{ parameter, mask string }{
	{"delegate_cmds", "0x21"},              // BPF_MAP_CREATE, BPF_PROG_LOAD
	{"delegate_maps", "0x6"},               // BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY
	{"delegate_progs", "0x8"},              // BPF_PROG_TYPE_SCHED_CLS
	{"delegate_attachs", "0x400000000000"}, // BPF_TCX_INGRESS
}

// granted is the byte by which the caller says that it has done what it could.
const granted = 1

// bpfRoot is where BPF file systems belong.
const bpfRoot = "/sys/fs/bpf"

// delegateBPF is the caller's part: it reads from PID 1 the descriptor of a file
// system that is not yet made, says what is delegated to it, and makes it: that is
// not PID 1's to do (bpf_fill_super).
func delegateBPF(pidOne *net.UnixConn) error {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := pidOne.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return errors.Join(err, fmt.Errorf("%d descriptors from PID 1, want 1", len(messages)))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	system := os.NewFile(uintptr(fds[0]), "bpf file system")
	defer system.Close()
	for _, d := range delegated {
		if err := unix.FsconfigSetString(int(system.Fd()), d.parameter, d.mask); err != nil {
			return fmt.Errorf("%s: %w", d.parameter, err)
		}
	}
	if err := unix.FsconfigCreate(int(system.Fd())); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	_, err = pidOne.Write([]byte{granted})
	return err
}

// mountBPF is the part of PID 1.
func mountBPF(caller *net.UnixConn) error {
	fd, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	system := os.NewFile(uintptr(fd), "bpf file system")
	defer system.Close()
	if _, _, err := caller.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil); err != nil {
		return err
	}
	if _, err := caller.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the caller did not delegate: %w", err)
	}
	mounted, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	mount := os.NewFile(uintptr(mounted), "bpf mount")
	defer mount.Close()
	if err := unix.MoveMount(mounted, "", unix.AT_FDCWD, bpfRoot, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", bpfRoot, err)
	}
	return nil
}

// wire makes a pair of connected sockets: ours, and the other as a file for
// another process.
func wire() (ours *net.UnixConn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "to the caller")
	if ours, err = wireEnd(pair[0]); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// wireEnd takes a descriptor over as one end of a wire.
func wireEnd(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "wire")
	// FileConn has a descriptor of its own.
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	end, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is no unix socket", fd), conn.Close())
	}
	return end, nil
}
