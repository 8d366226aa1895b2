package haproxy_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"twlab/harness/haproxy"
	"twlab/harness/ns"
	"twlab/harness/tcp"
)

// loopback is a namespace with a loopback device, and its host.
func loopback(t *testing.T) (*ns.Namespace, *tcp.Host) {
	t.Helper()
	space, err := ns.New()
	if err != nil {
		t.Skipf("needs root or the sandbox: %v", err)
	}
	t.Cleanup(func() { closed(t, space.Close()) })
	err = space.Do(func() error {
		return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	host := tcp.NewHost(space.Do)
	t.Cleanup(func() { closed(t, host.CloseAll()) })
	return space, host
}

func closed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

var server = netip.MustParseAddrPort("127.0.0.1:8080")

func TestBalancesAndCounts(t *testing.T) {
	space, host := loopback(t)
	if _, _, err := host.Listen(t.Context(), tcp.ListenSpec{At: server, Ending: tcp.CloseAfterPeer}); err != nil {
		t.Fatal(err)
	}
	h, err := haproxy.Start(t.Context(), space, haproxy.Config{Servers: []netip.AddrPort{server}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closed(t, h.Close()) }()
	before, err := h.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := host.Attempt(t.Context(), []tcp.Attempt{{To: netip.MustParseAddrPort("127.0.0.1:80"), Ending: tcp.CloseFirst}})
	if err != nil || out[0].Verdict != tcp.Connected {
		t.Fatal(out, err)
	}
	after, err := h.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(after.Sub(before).Moved())
	log, err := h.Log()
	t.Log(log, err)
	t.Log(h.Configuration())
}
