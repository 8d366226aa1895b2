//go:build linux

package tcp_test

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/tcp"
)

func TestReceiveUpToItsLimit(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	receive := func(limit tcp.Limit, want tcp.Received) {
		t.Helper()
		if got, err := host.ReceiveUpTo(t.Context(), client, limit); got != want || err != nil {
			t.Errorf("within %+v: %+v, %v, want %+v", limit, got, err, want)
		}
	}
	_, err := host.Send(server, 10_000)
	must(t, err)
	receive(tcp.Limit{Bytes: 4000, Within: time.Minute}, tcp.Received{Bytes: 4000, Open: true})
	receive(tcp.Limit{Within: 20 * time.Millisecond}, tcp.Received{Bytes: 6000, Open: true})
	receive(tcp.Limit{Bytes: 1, Within: 20 * time.Millisecond}, tcp.Received{Open: true})
	_, err = host.Send(server, 100)
	must(t, err)
	must(t, host.End(t.Context(), server, tcp.CloseNow))
	receive(tcp.Limit{Bytes: 100}, tcp.Received{Bytes: 100, Open: true})
	receive(tcp.Limit{Bytes: 100, Within: time.Minute}, tcp.Received{})
	if _, err := host.ReceiveUpTo(t.Context(), client, tcp.Limit{Bytes: -1}); err == nil {
		t.Error("a limit below 0 is no error")
	}
}

// After a half-close the peer's data still comes, and nothing more can be sent.
func TestHalfClose(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	_, err := host.Send(client, 5)
	must(t, err)
	if errno, err := host.HalfClose(client); errno != 0 || err != nil {
		t.Fatalf("half-close: %v, %v", errno, err)
	}
	if got, err := host.Receive(t.Context(), server); got != (tcp.Received{Bytes: 5}) || err != nil {
		t.Errorf("the peer: %+v, %v, want 5 bytes and the FIN", got, err)
	}
	_, err = host.Send(server, 700)
	must(t, err)
	must(t, host.End(t.Context(), server, tcp.CloseNow))
	if got, err := host.Receive(t.Context(), client); got != (tcp.Received{Bytes: 700}) || err != nil {
		t.Errorf("after the half-close: %+v, %v, want 700 bytes and the FIN", got, err)
	}
	if got, err := host.TrySend(client, 1); got != (tcp.Sent{Errno: unix.EPIPE}) || err != nil {
		t.Errorf("send after the half-close: %+v, %v, want EPIPE", got, err)
	}
	client, server = both(t, host, tcp.Attempt{})
	must(t, host.End(t.Context(), server, tcp.Abort))
	_, err = host.Receive(t.Context(), client)
	must(t, err)
	if errno, err := host.HalfClose(client); errno != unix.ENOTCONN || err != nil {
		t.Errorf("half-close after a RST: %v, %v, want ENOTCONN", errno, err)
	}
}

// The kernel reports the peer's RST once, to whoever asks first: then a send gets EPIPE.
func TestWhatASendSaysAfterAReset(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(t *testing.T, host *tcp.Host, conn tcp.Handle)
		sends []syscall.Errno
	}{
		{"nobody asked before", func(*testing.T, *tcp.Host, tcp.Handle) {}, []syscall.Errno{unix.ECONNRESET, unix.EPIPE, unix.EPIPE}},
		{"SO_ERROR was read", func(t *testing.T, host *tcp.Host, conn tcp.Handle) {
			for _, want := range []syscall.Errno{unix.ECONNRESET, 0} {
				if got, err := host.SocketError(conn); got != want || err != nil {
					t.Errorf("SO_ERROR: %v, %v, want %v", got, err, want)
				}
			}
		}, []syscall.Errno{unix.EPIPE}},
		{"a read had it", func(t *testing.T, host *tcp.Host, conn tcp.Handle) {
			_, err := host.Receive(t.Context(), conn)
			must(t, err)
		}, []syscall.Errno{unix.EPIPE}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHost(t)
			client, server := both(t, host, tcp.Attempt{})
			_, err := host.Send(server, 30)
			must(t, err)
			must(t, host.End(t.Context(), server, tcp.Abort))
			c.first(t, host, client)
			for i, want := range c.sends {
				if got, err := host.TrySend(client, 8); got != (tcp.Sent{Errno: want}) || err != nil {
					t.Errorf("send %d: %+v, %v, want %v", i, got, err, want)
				}
			}
			if _, err := host.Send(client, 1); err == nil {
				t.Error("Send: no error")
			}
			// What the peer sent before is there all the same, and the reads know the end.
			if got, err := host.Receive(t.Context(), client); got.Errno != unix.ECONNRESET || err != nil || got.Bytes != 30 && c.name != "a read had it" {
				t.Errorf("receive: %+v, %v, want 30 bytes and ECONNRESET", got, err)
			}
		})
	}
}

func TestSendSaysThatTheWindowIsFull(t *testing.T) {
	host := newHost(t)
	client, _ := both(t, host, tcp.Attempt{})
	const much = 64 << 20
	got, err := host.TrySend(client, much)
	if err != nil || got.Errno != unix.EAGAIN || got.Bytes == 0 || got.Bytes == much || got.Err() != nil {
		t.Errorf("%+v, %v, want a part and EAGAIN", got, err)
	}
}
