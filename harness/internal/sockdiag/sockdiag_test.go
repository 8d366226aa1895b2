//go:build linux

package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/leak"
	"twlab/harness/observe"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

// A lookup finds what a dump shows, and nothing else.
func TestLookup(t *testing.T) {
	for name, c := range map[string]struct {
		family int
		at     unix.Sockaddr
		to     func(unix.Sockaddr) unix.Sockaddr
	}{
		"IPv4": {unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, same},
		"IPv6": {unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}, same},
		"IPv4 on an IPv6 socket": {unix.AF_INET6, &unix.SockaddrInet6{}, func(at unix.Sockaddr) unix.Sockaddr {
			six, _ := at.(*unix.SockaddrInet6)
			return &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16(), Port: six.Port}
		}},
	} {
		t.Run(name, func(t *testing.T) { tryLookup(t, c.family, c.at, c.to) })
	}
}

func same(at unix.Sockaddr) unix.Sockaddr { return at }

// tryLookup makes a connection to a listener at an address, and looks for it.
func tryLookup(t *testing.T, family int, listen unix.Sockaddr, to func(unix.Sockaddr) unix.Sockaddr) {
	t.Helper()
	space := nstest.Loopback(t)
	var (
		lookup *Lookup
		listed observe.Sockets
		fds    [3]int
	)
	err := space.Do(func() (err error) {
		for i := range fds {
			if i < 2 {
				if fds[i], err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
					return err
				}
			}
		}
		if err := errors.Join(unix.Bind(fds[0], listen), unix.Listen(fds[0], 1)); err != nil {
			return err
		}
		at, err := unix.Getsockname(fds[0])
		if err != nil {
			return err
		}
		if err := unix.Connect(fds[1], to(at)); err != nil {
			return err
		}
		if fds[2], _, err = unix.Accept(fds[0]); err != nil {
			return err
		}
		if lookup, err = Open(); err != nil {
			return err
		}
		// The client closes first: its end is a minisocket, the other waits.
		if err := unix.Close(fds[1]); err != nil {
			return err
		}
		if err := unix.Close(fds[2]); err != nil {
			return err
		}
		listed, err = observe.ReadSockets()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(lookup.Close(), unix.Close(fds[0])); err != nil {
			t.Error(err)
		}
	}()
	waiting := listed.In(observe.TimeWait)
	if len(waiting) != 1 {
		t.Fatalf("%v, want one TIME_WAIT", listed)
	}
	want := waiting[0]
	got, found, err := lookup.Find(want.Local, want.Remote)
	if err != nil || !found || got != unix.BPF_TCP_TIME_WAIT {
		t.Errorf("found %v: %v, %v, want %v", found, got, err, want)
	}
	// The listener is at the other end, and is no connection.
	if got, found, err := lookup.Find(want.Remote, want.Local); err != nil || found {
		t.Errorf("found %v: %v, %v, want nothing", found, got, err)
	}
	if got, found, err := lookup.Find(want.Local, netip.AddrPortFrom(want.Remote.Addr(), 1)); err != nil || found {
		t.Errorf("found %v: %v, %v, want nothing", found, got, err)
	}
	other := netip.MustParseAddrPort("[::1]:1")
	if want.Remote.Addr().Is6() {
		other = netip.MustParseAddrPort("127.0.0.1:1")
	}
	if _, _, err := lookup.Find(other, want.Remote); err == nil {
		t.Error("looks for a socket between an IPv6 and an IPv4 address")
	}
	afterUnreadAnswer(t, lookup, want)
}

// afterUnreadAnswer looks for a socket after a question whose answer nobody read, as after
// an error: that answer is not the next one's.
func afterUnreadAnswer(t *testing.T, lookup *Lookup, want observe.Socket) {
	t.Helper()
	var unread [unix.SizeofNlMsghdr + diagRequestSize]byte
	binary.NativeEndian.PutUint32(unread[:], uint32(len(unread)))
	binary.NativeEndian.PutUint16(unread[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(unread[6:], unix.NLM_F_REQUEST)
	unread[unix.SizeofNlMsghdr], unread[unix.SizeofNlMsghdr+1] = unix.AF_INET, unix.IPPROTO_TCP
	if err := unix.Sendto(lookup.fd, unread[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, found, err := lookup.Find(want.Local, want.Remote); err != nil || !found || got != unix.BPF_TCP_TIME_WAIT {
			t.Errorf("after an unread answer: found %v: %v, %v, want %v", found, got, err, want)
		}
	}
}

// Whoever comes after Close gets an error and touches no descriptor of others.
func TestLookupIsClosedOnce(t *testing.T) {
	const rounds, callers = 200, 3
	space := nstest.Loopback(t)
	local, remote := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	for range rounds {
		var lookup *Lookup
		err := space.Do(func() (err error) {
			lookup, err = Open()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var calls errgroup.Group
		for range callers {
			calls.Go(func() error {
				for {
					if _, _, err := lookup.Find(local, remote); err != nil {
						if errors.Is(err, os.ErrClosed) {
							return nil
						}
						return err
					}
				}
			})
			calls.Go(lookup.Close)
		}
		if err := calls.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
