//go:build linux

package evict

import (
	"encoding/hex"
	"net/netip"
	"testing"
)

// The ends of a packet are found behind whatever stands before TCP, and of no other packet.
func TestEndsOf(t *testing.T) {
	const (
		ports   = "9c41" + "0050"
		v4      = "4500003c1a2b40004006000a" + "0a000002" + "0a140003"
		options = "46000040" + "1a2b40004006000a" + "0a000002" + "0a140003" + "01010100"
		v6      = "60000000" + "0028"
		between = "40" + "fd00000a000000000000000000000002" + "fd000014000000000000000000000003"
	)
	four := ends{netip.MustParseAddrPort("10.0.0.2:40001"), netip.MustParseAddrPort("10.20.0.3:80")}
	six := ends{netip.MustParseAddrPort("[fd00:a::2]:40001"), netip.MustParseAddrPort("[fd00:14::3]:80")}
	for name, c := range map[string]struct {
		packet string
		want   ends
	}{
		"IPv4":                      {v4 + ports, four},
		"IPv4 with options":         {options + ports, four},
		"IPv4, UDP":                 {"4500003c1a2b40004011000a" + "0a0000020a140003" + ports, ends{}},
		"IPv4, cut":                 {v4 + "9c41", ends{}},
		"IPv6":                      {v6 + "06" + between + ports, six},
		"IPv6, hop-by-hop":          {v6 + "00" + between + "0600010400000000" + ports, six},
		"IPv6, two extensions":      {v6 + "00" + between + "3c00010400000000" + "0601010c" + "000000000000000000000000" + ports, six},
		"IPv6, UDP":                 {v6 + "11" + between + ports, ends{}},
		"IPv6, cut in an extension": {v6 + "00" + between + "0601010400000000", ends{}},
		"IPv6, cut":                 {v6 + "06" + between + "9c41", ends{}},
		"IPv6 header, cut":          {v6 + "06" + between[:20], ends{}},
		"neither":                   {"50", ends{}},
		"nothing":                   {"", ends{}},
	} {
		raw, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		if got := endsOf(raw); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
