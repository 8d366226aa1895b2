//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// In a user namespace even root cannot use BPF. Linux 6.9 permits some of it again: a
// process with CAP_SYS_ADMIN outside may configure, for a BPF file system of the namespace,
// what the processes that see it may load (BPF tokens, commit 35f96de04127). So PID 1 opens
// such a file system, the caller outside configures it, if the kernel permits that, and PID
// 1 mounts it at the usual place. When any step is refused, the sandbox goes on without
// BPF: a process that tries to load a program then gets an error. Programs and maps exist
// as long as descriptors of processes inside, and the programs can be attached only where
// the sandbox has CAP_NET_ADMIN.

// delegated says what may be loaded in a sandbox: maps, and programs that look at incoming
// packets, and nothing else. The numbers are those of include/uapi/linux/bpf.h.
var delegated = []struct{ parameter, mask string }{
	{"delegate_cmds", "0x21"},              // BPF_MAP_CREATE, BPF_PROG_LOAD
	{"delegate_maps", "0x8000006"},         // BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_RINGBUF
	{"delegate_progs", "0x20008"},          // BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_RAW_TRACEPOINT
	{"delegate_attachs", "0x400000000001"}, // BPF_TCX_INGRESS, and 0, which a program for a tracepoint has
}

// granted is the byte with which the caller reports that it has configured the file system.
const granted = 1

// bpfRoot is the usual mount point of a BPF file system.
const bpfRoot = "/sys/fs/bpf"

// delegateBPF is the caller's part. It receives from PID 1 the descriptor of a file system
// that has not been created yet, sets what is delegated to it, and creates it, which PID 1
// may not do (bpf_fill_super).
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

// mountBPF is PID 1's part.
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

// wire makes a pair of connected sockets: one for this process, and one as a file for
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

// wireEnd makes one end of a wire from a descriptor, which it takes over.
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
		return nil, errors.Join(fmt.Errorf("descriptor %d is not a unix socket", fd), conn.Close())
	}
	return end, nil
}
