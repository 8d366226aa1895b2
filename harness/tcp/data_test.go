//go:build linux

package tcp_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/tcp"
)

// both opens a connection and returns its two ends.
func both(t *testing.T, host *tcp.Host, a tcp.Attempt) (client, server tcp.Handle) {
	t.Helper()
	listener, at := listen(t, host, tcp.ListenSpec{})
	a.To = at
	out := attempt(t, host, a)[0]
	server, err := host.Accept(t.Context(), listener, out.Local)
	if err != nil {
		t.Fatal(err)
	}
	return out.Conn, server
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReceiveGetsWhatWasSent(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	if taken, err := host.Send(client, 1000); taken != 1000 || err != nil {
		t.Fatalf("Send = %d, %v, want all 1000", taken, err)
	}
	must(t, host.End(t.Context(), client, tcp.CloseNow))
	got, err := host.Receive(t.Context(), server)
	if want := (tcp.Received{Bytes: 1000}); got != want || err != nil {
		t.Errorf("Receive = %+v, %v, want %+v", got, err, want)
	}
}

func TestSendStopsWhenTheKernelIsFull(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	const more = 64 << 20
	taken, err := host.Send(client, more)
	if taken == 0 || taken == more || err != nil {
		t.Fatalf("Send of %d bytes that nobody reads = %d, %v, want a part of them", more, taken, err)
	}
	must(t, host.End(t.Context(), client, tcp.Abort))
	got, err := host.Receive(t.Context(), server)
	if got.Errno != unix.ECONNRESET || got.Bytes >= taken || err != nil {
		t.Errorf("Receive after a RST = %+v, %v, want fewer than %d bytes and ECONNRESET", got, err, taken)
	}
}

func TestVanishTellsThePeerNothing(t *testing.T) {
	host := newHost(t)
	client, server := both(t, host, tcp.Attempt{})
	must(t, host.End(t.Context(), client, tcp.Vanish))
	// Nobody is there any more: the first byte is answered by a RST.
	if _, err := host.Send(server, 1); err != nil {
		t.Fatalf("Send to a peer that has vanished = %v, want a connection that still stands", err)
	}
	got, err := host.Receive(t.Context(), server)
	if got.Errno != unix.ECONNRESET || err != nil {
		t.Errorf("Receive = %+v, %v, want ECONNRESET", got, err)
	}
}

func TestClockMovesWithTimeAndByHand(t *testing.T) {
	host := newHost(t, "net.ipv4.tcp_timestamps", "2")
	client, _ := both(t, host, tcp.Attempt{})
	first, err := host.Clock(client)
	must(t, err)
	must(t, host.AdvanceClock(client, 1<<20))
	second, err := host.Clock(client)
	must(t, err)
	// One tick is 1 ms on any kernel that has TCP_TS_HZ; setting loses less than 2.
	passed := int64(second.Ticks - first.Ticks - 1<<20)
	if took := (second.At - first.At).Milliseconds(); passed < took-2 || passed > took+2 {
		t.Errorf("clock went on by 1<<20 and %d ticks in %d ms", passed, took)
	}
}

func TestAttemptWaitsForItsMoment(t *testing.T) {
	host := newHost(t)
	client, _ := both(t, host, tcp.Attempt{})
	now, err := host.Clock(client)
	must(t, err)
	const ahead = 30 * time.Millisecond
	began := time.Now()
	both(t, host, tcp.Attempt{NotBefore: now.At + ahead})
	if took := time.Since(began); took < ahead/2 {
		t.Errorf("connected after %v, want to have waited for most of %v", took, ahead)
	}
	_, at := listen(t, host, tcp.ListenSpec{})
	_, err = host.Attempt(t.Context(), []tcp.Attempt{{To: at, NotBefore: now.At + time.Hour}})
	if err == nil || !strings.Contains(err.Error(), "ahead") {
		t.Errorf("Attempt an hour ahead = %v, want an error", err)
	}
}
