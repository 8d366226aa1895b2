//go:build linux

// Command foreign is a guest agent of another version: it has no methods.
package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/line"
)

func main() {
	const ttyMajor, secondPort = 4, 65
	if err := unix.Mknod(agent.Port, unix.S_IFCHR|0o600, int(unix.Mkdev(ttyMajor, secondPort))); err != nil {
		panic(err)
	}
	port, err := os.OpenFile(agent.Port, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		panic(err)
	}
	raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200}
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, &raw); err != nil {
		panic(err)
	}
	panic(line.NewServer(line.Errors{}).Serve(context.Background(), port))
}
