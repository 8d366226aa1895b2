//go:build linux

package tcp

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// bind binds the socket to From. When the kernel refuses, that is the attempt's outcome.
func (t *try) bind() error {
	fd := t.socket.fd
	if err := setAll(fd, t.beforeBind()); err != nil || t.From == (netip.AddrPort{}) {
		return err
	}
	t.began = time.Now()
	if err := unix.Bind(fd, t.kind().sockaddr(t.From)); err != nil {
		return t.decide(StepBind, err)
	}
	return nil
}

// beforeBind lists the options of the socket.
func (a *Attempt) beforeBind() (options []option) {
	if a.ReuseAddr {
		options = append(options, option{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, ""})
	}
	if a.ReusePort {
		options = append(options, option{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "3.9"})
	}
	if a.LatePort && a.From != (netip.AddrPort{}) {
		options = append(options, option{"IP_BIND_ADDRESS_NO_PORT", unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1, "4.2"})
	}
	options = append(options, a.PortRange.list()...)
	return append(options, a.Options.list()...)
}
