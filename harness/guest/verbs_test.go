//go:build linux

package guest_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/guest"
	"twlab/harness/http"
	"twlab/harness/tcp"
)

// What the kernel says is the same plain data on this side of the line.
func outcomes(t *testing.T, m *guest.Machine) {
	t.Helper()
	ctx := t.Context()
	listener, err := m.Listen(ctx, tcp.ListenSpec{At: netip.MustParseAddrPort("0.0.0.0:80"), Backlog: new(0)})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := m.TryListen(ctx, tcp.ListenSpec{At: netip.MustParseAddrPort("10.0.0.1:80")})
	if err != nil || taken.Outcome != tcp.PortInUse || taken.Step != tcp.StepBind || len(taken.Holders) != 1 || taken.Holders[0].Handle != listener.Handle {
		t.Errorf("%v, %v, want the port in use by %v", taken, err, listener.Handle)
	}
	web, err := m.TryServe(ctx, http.ListenSpec{ListenSpec: tcp.ListenSpec{At: netip.MustParseAddrPort("192.0.2.1:80")}})
	if err != nil || web.Outcome != tcp.NoAddress {
		t.Errorf("%v, %v, want NoAddress", web, err)
	}
	out, err := m.Connect(ctx, tcp.Attempt{To: listener.Addr, ISN: 5})
	if err != nil || out.Outcome != tcp.Connected || out.Local.Addr() != listener.Addr.Addr() {
		t.Fatalf("%v, %v, want it Connected", out, err)
	}
	conn, err := m.Accept(ctx, listener.Handle, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	if errno, err := m.HalfClose(ctx, out.Conn); errno != 0 || err != nil {
		t.Errorf("half-close: %v, %v", errno, err)
	}
	if sent, err := m.TrySend(ctx, out.Conn, 1); sent != (tcp.Sent{Errno: unix.EPIPE}) || err != nil {
		t.Errorf("send: %+v, %v, want EPIPE", sent, err)
	}
	if got, err := m.ReceiveUpTo(ctx, out.Conn, tcp.Limit{Within: time.Millisecond}); !got.Open || err != nil {
		t.Errorf("receive: %+v, %v, want it open", got, err)
	}
	if err := m.End(ctx, out.Conn, tcp.Abort); err != nil {
		t.Error(err)
	}
	if errno, err := m.SocketError(ctx, conn); errno != unix.EPIPE || err != nil { // a RST in CLOSE_WAIT (tcp_reset)
		t.Errorf("SO_ERROR: %v, %v, want EPIPE", errno, err)
	}
	// Distributions backport the option: 6.1 of Debian has it.
	out, err = m.Connect(ctx, tcp.Attempt{To: listener.Addr, PortRange: tcp.PortRange{Low: 40000, High: 40001}})
	switch port := out.Local.Port(); {
	case err == nil && (port < 40000 || port > 40001):
		t.Errorf("port %d, want one of the range", port)
	case err != nil && !strings.Contains(err.Error(), "Linux 6.3 has it"):
		t.Errorf("port range: %v, want an error that names the release", err)
	}
	t.Logf("port range: %v, %v", out, err)
}
