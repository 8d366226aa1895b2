//go:build linux

package observe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// hexEnd writes an address as this machine's /proc/net/tcp does.
func hexEnd(end string) string {
	a := netip.MustParseAddrPort(end)
	bytes := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(bytes[:]), a.Port())
}

func TestParseSockets(t *testing.T) {
	text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: " + hexEnd("0.0.0.0:80") + " " + hexEnd("0.0.0.0:0") + " 0A 00000000:00000002 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n" +
		"   1: " + hexEnd("10.0.0.1:40001") + " " + hexEnd("10.20.0.3:80") + " 06 00000000:00000000 03:0000176F 00000000 0 0 0 3 0\n" +
		"   2: " + hexEnd("10.0.0.1:40002") + " " + hexEnd("10.20.0.3:80") + " 02 00000001:00000000 01:FFFFFFFFFFFFFFFF 00000000 0 0 0 3 0\n"
	got, err := parseSockets(text, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort
	want := Sockets{
		{State: Listen, Local: at("0.0.0.0:80"), Remote: at("0.0.0.0:0"), Timer: TimerNone, RecvQueue: 2},
		{State: TimeWait, Local: at("10.0.0.1:40001"), Remote: at("10.20.0.3:80"), Timer: TimerTimeWait, Expires: 59990 * time.Millisecond},
		{State: SynSent, Local: at("10.0.0.1:40002"), Remote: at("10.20.0.3:80"), Timer: TimerRetransmit, SendQueue: 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got, want := got[1].String(), "TIME_WAIT 10.0.0.1:40001 > 10.20.0.3:80 timewait 59.99s"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
}

func TestParseSocketsRefuses(t *testing.T) {
	good := hexEnd("10.0.0.1:1")
	for name, c := range map[string]struct{ line, want string }{
		"truncated":     {"0: " + good + " " + good + " 06", "line 2: 4 columns"},
		"short address": {"0: 0A00:0050 " + good + " 06 0:0 0:0", "8 or 32 hexadecimal digits"},
		"no port":       {"0: 0A000001 " + good + " 06 0:0 0:0", "port of"},
		"unknown state": {"0: " + good + " " + good + " 0D 0:0 0:0", "state 13 is not known"},
		"bad timer":     {"0: " + good + " " + good + " 06 0:0 03", "timer"},
		"bad queue":     {"0: " + good + " " + good + " 06 x:0 0:0", "queues"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseSockets("titles\n"+c.line+"\n", "tcp")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestSocketsSelect(t *testing.T) {
	at := netip.MustParseAddrPort
	sockets := Sockets{
		{State: TimeWait, Local: at("10.0.0.1:1"), Remote: at("10.0.0.9:80")},
		{State: TimeWait, Local: at("10.0.0.1:2"), Remote: at("10.0.0.9:80")},
		{State: Established, Local: at("10.0.0.1:3"), Remote: at("10.0.0.9:81")},
		{State: FinWait2, Local: at("10.0.0.2:4"), Remote: at("10.0.0.9:80"), Timer: TimerTimeWait},
		{State: FinWait2, Local: at("10.0.0.2:5"), Remote: at("10.0.0.9:80"), Timer: TimerKeepalive},
	}
	var anyone netip.AddrPort
	for name, c := range map[string]struct{ got, want int }{
		"state":           {len(sockets.In(TimeWait)), 2},
		"no such state":   {len(sockets.In(SynSent)), 0},
		"all":             {len(sockets.Between(anyone, anyone)), 5},
		"local":           {len(sockets.Between(at("10.0.0.1:3"), anyone)), 1},
		"local address":   {len(sockets.Between(at("10.0.0.1:0"), anyone)), 3},
		"remote port":     {len(sockets.Between(anyone, at("0.0.0.0:80"))), 4},
		"both":            {len(sockets.Between(at("10.0.0.1:0"), at("10.0.0.9:80"))), 2},
		"wrong direction": {len(sockets.Between(at("10.0.0.9:80"), anyone)), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %d sockets, want %d", name, c.got, c.want)
		}
	}
	for i, want := range []bool{false, false, false, true, false} {
		if sockets[i].Mini() != want {
			t.Errorf("Mini of %s: got %v", sockets[i], !want)
		}
	}
}

// hexEnd6 writes an address as this machine's /proc/net/tcp6 does.
func hexEnd6(end string) string {
	a := netip.MustParseAddrPort(end)
	bytes := a.Addr().As16()
	var text strings.Builder
	for word := 0; word < len(bytes); word += 4 {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(bytes[word:]))
	}
	return fmt.Sprintf("%s:%04X", text.String(), a.Port())
}

func TestParseIPv6Sockets(t *testing.T) {
	text := "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: " + hexEnd6("[::]:80") + " " + hexEnd6("[::]:0") + " 0A 00000000:00000002 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n" +
		"   1: " + hexEnd6("[fd00::1]:40001") + " " + hexEnd6("[2001:db8::abcd]:80") + " 06 00000000:00000000 03:0000176F 00000000 0 0 0 3 0\n" +
		"   2: " + hexEnd6("10.0.0.1:80") + " " + hexEnd6("10.0.0.2:40001") + " 01 00000000:00000000 00:00000000 00000000 0 0 0 3 0\n"
	got, err := parseSockets(text, "tcp6")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort
	want := Sockets{
		{State: Listen, Local: at("[::]:80"), Remote: at("[::]:0"), Timer: TimerNone, RecvQueue: 2, V6: true},
		{State: TimeWait, Local: at("[fd00::1]:40001"), Remote: at("[2001:db8::abcd]:80"), Timer: TimerTimeWait, Expires: 59990 * time.Millisecond, V6: true},
		{State: Established, Local: at("10.0.0.1:80"), Remote: at("10.0.0.2:40001"), Timer: TimerNone, V6: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	only := want[0]
	only.V6Only = true
	for want, s := range map[string]Socket{
		"ESTABLISHED 10.0.0.1:80 > 10.0.0.2:40001 (IPv6 socket)": got[2],
		"LISTEN [::]:80 > [::]:0 (IPv6 only)":                    only,
	} {
		if s.String() != want {
			t.Errorf("String: got %q, want %q", s, want)
		}
	}
}
