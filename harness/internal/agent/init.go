//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Port is the serial port that carries the calls. The first serial port is the console.
const Port = "/dev/ttyS1"

// Init is the work of process 1 of a machine: it serves the port until that ends, and
// powers the machine off. It writes messages to out, the console. When it finds a [Job], it
// runs that instead.
func Init(ctx context.Context, out io.Writer) {
	err := live(ctx)
	fmt.Fprintln(out, "twlab agent: power off:", err)
	unix.Sync()
	// Power off needs ACPI; a machine with -no-reboot also ends when it restarts.
	err = errors.Join(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF), unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	fmt.Fprintln(out, "twlab agent: the machine stays on:", err) // and the kernel panics, because process 1 ends
}

func live(ctx context.Context) error {
	if err := mount("proc", "/proc"); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys"); err != nil {
		return err
	}
	j, found, err := readJob()
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", jobFile, err)
	case found:
		return j.do()
	default:
		go reap()
		return serve(ctx)
	}
}

func mount(kind, at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("twlab", at, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

func serve(ctx context.Context) error {
	port, err := openPort()
	if err != nil {
		return fmt.Errorf("open %s: %w", Port, err)
	}
	return errors.Join(NewServer(&Agent{}).Serve(ctx, port), port.Close())
}

// openPort opens the port in raw mode: otherwise the kernel would echo, edit lines, and
// interpret some bytes as signals.
func openPort() (*os.File, error) {
	const ttyMajor, secondPort = 4, 65
	err := unix.Mknod(Port, unix.S_IFCHR|0o600, int(unix.Mkdev(ttyMajor, secondPort)))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	port, err := os.OpenFile(Port, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200, Ispeed: unix.B115200, Ospeed: unix.B115200}
	raw.Cc[unix.VMIN] = 1
	control, err := port.SyscallConn()
	if err == nil {
		var refused error
		err = control.Control(func(fd uintptr) { refused = unix.IoctlSetTermios(int(fd), unix.TCSETS, &raw) })
		err = errors.Join(err, refused)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set raw mode: %w", err), port.Close())
	}
	return port, nil
}

// reap waits for orphans, which process 1 has to do. The agent starts no programs, so no
// other code waits for a child.
func reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	for range children {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}
