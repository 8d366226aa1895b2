//go:build linux

package lab_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"twlab/harness/lab"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// A recording that could not begin is no recording: the next one begins.
func TestCaptureThatFailedBeginsAnew(t *testing.T) {
	l := build(t, lab.Topology{Clients: 2})
	if err := withoutDescriptors(t, func() error { return l.Capture("client0") }); err == nil {
		t.Fatal("a tap without a descriptor")
	}
	if err := l.Capture("client1", "nobody"); err == nil {
		t.Fatal("a capture of a link that is not there")
	}
	for _, name := range []string{"client0", "client1"} {
		if err := l.Capture(name); err != nil {
			t.Fatal(err)
		}
		listener := listenOn(t, get(t, l, "balancer"), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
		out := attemptFrom(t, get(t, l, name), tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst})[0]
		packets, err := l.Packets()
		if err != nil {
			t.Fatal(err)
		}
		account := observe.AccountSYNs(packets, l.Path(name), out.Local, listener.Addr)
		if account.Sent != 1 || account.Reached != 1 || account.SYNACKs != 1 {
			t.Errorf("%s, account: %v", name, account)
		}
	}
}

// withoutDescriptors calls f while nothing more can be opened.
func withoutDescriptors(t *testing.T, f func() error) error {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}()
	return f()
}

// A recording that begins after a mark is since the mark.
func TestACaptureThatBeginsAfterAMark(t *testing.T) {
	l := build(t, lab.Topology{Clients: 1})
	mark := l.Mark()
	if err := l.Capture("client0"); err != nil {
		t.Fatal(err)
	}
	listener := listenOn(t, get(t, l, "balancer"), tcp.ListenSpec{Ending: tcp.CloseAfterPeer})
	attemptFrom(t, get(t, l, "client0"), tcp.Attempt{To: listener.Addr, Ending: tcp.CloseFirst})
	if since, err := l.PacketsSince(mark); err != nil || len(since) == 0 {
		t.Errorf("%d packets, %v", len(since), err)
	}
}
