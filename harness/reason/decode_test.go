//go:build linux

package reason

import (
	"encoding/binary"
	"testing"
)

// recorded is a record of a drop with these headers.
func recorded(headers ...byte) []byte {
	b := make([]byte, recordSize)
	binary.NativeEndian.PutUint32(b[recordKind:], kindDrop)
	copy(b[recordHeaders:recordHeaders+recordedHeader], headers)
	return b
}

// ipv4 is a header without options, or with so many words of them, and a TCP header whose
// segment has 3 bytes of data.
func ipv4(words int, protocol byte, fragment uint16) []byte {
	b := make([]byte, 20+4*words+20)
	b[0], b[9] = 0x45+byte(words), protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+3))
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[len(b)-20+12] = 0x50
	return b
}

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		record  []byte
		is, bad bool
	}{
		"a segment":                        {recorded(ipv4(0, 6, 0)...), true, false},
		"a segment behind IP options":      {recorded(ipv4(2, 6, 0)...), true, false},
		"the first fragment":               {recorded(ipv4(0, 6, 0x2000)...), true, false},
		"a later fragment":                 {recorded(ipv4(0, 6, 0x2001)...), false, false},
		"UDP":                              {recorded(ipv4(0, 17, 0)...), false, false},
		"options that leave no TCP header": {recorded(ipv4(6, 6, 0)...), false, false},
		"nothing":                          {recorded(), false, false},
		"a header shorter than any":        {recorded(0x41, 0, 0, 0, 0, 0, 0, 0, 0, 6), false, false},
		"a record that is cut":             {recorded()[:recordSize-1], false, true},
		"a record of no kind":              {make([]byte, recordSize), false, true},
	} {
		e, ok, err := decode(c.record)
		if ok != c.is || (err != nil) != c.bad || ok && e.Payload != 3 {
			t.Errorf("%s: %v, %v, %v", name, e, ok, err)
		}
	}
}

// A segment that is freed as part of the packet that it was put into was not dropped.
func TestPartsOfPacketsAreNoDrops(t *testing.T) {
	for function, want := range map[string]int{"nft_do_chain+0x5c/0x4d0": 1, "skb_release_data+0x145/0x1a0": 0, "skb_release_data.part.0+0x45/0x1a0": 0} {
		b := recorded(ipv4(0, 6, 0)...)
		copy(b[recordFunction:recordFunction+functionLength], function)
		w := &Watch{}
		if err := w.take(b); err != nil || len(w.all) != want {
			t.Errorf("%s: %d drops, %v; want %d", function, len(w.all), err, want)
		}
	}
}
