package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// packet is an IPv4 packet with a SYN or data from 10.0.0.1:1000 to 10.0.0.2:80.
func packet(seq uint32, flags byte, data string) []byte {
	tcp := make([]byte, 32, 32+len(data))
	copy(tcp, []byte{0x03, 0xe8, 0, 80})
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 8<<4, flags
	copy(tcp[20:], []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 4})
	tcp = append(tcp, data...)
	ip := make([]byte, 20, 20+len(tcp))
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
	binary.BigEndian.PutUint16(ip[4:], 77)
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return append(ip, tcp...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// ether is a frame of Ethernet.
func ether(ip []byte) []byte { return join(make([]byte, 12), []byte{8, 0}, ip) }

// file is a pcap of frames, a second apart.
func file(order binary.AppendByteOrder, magic, link uint32, snap int, frames ...[]byte) []byte {
	text := order.AppendUint32(nil, magic)
	text = order.AppendUint16(order.AppendUint16(text, 2), 4)
	text = append(text, make([]byte, 8)...)
	text = order.AppendUint32(order.AppendUint32(text, uint32(snap)), link)
	for i, f := range frames {
		kept := f[:min(len(f), snap)]
		for _, n := range []int{1_700_000_000 + i, 5, len(kept), len(f)} {
			text = order.AppendUint32(text, uint32(n))
		}
		text = append(text, kept...)
	}
	return text
}

// block is a block of pcapng.
func block(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&3)...)
	n := uint32(len(body) + 12)
	return order.AppendUint32(append(order.AppendUint32(order.AppendUint32(nil, kind), n), body...), n)
}

// ng is a pcapng with one interface, whose units are by its option, and a packet that went out.
func ng(order binary.AppendByteOrder, resolution byte, ticks uint64, link uint16, f []byte) []byte {
	section := append(order.AppendUint32(nil, ngLittle), order.AppendUint16(order.AppendUint16(nil, 1), 0)...)
	section = append(section, bytes.Repeat([]byte{0xff}, 8)...)
	device := order.AppendUint32(order.AppendUint16(order.AppendUint16(nil, link), 0), 0)
	device = append(order.AppendUint16(order.AppendUint16(device, 9), 1), resolution, 0, 0, 0)
	epb := order.AppendUint32(order.AppendUint32(order.AppendUint32(nil, 0), uint32(ticks>>32)), uint32(ticks))
	epb = append(order.AppendUint32(order.AppendUint32(epb, uint32(len(f))), uint32(len(f))), f...)
	epb = append(epb, make([]byte, -len(epb)&3)...)
	epb = order.AppendUint32(order.AppendUint16(order.AppendUint16(epb, 2), 4), 2)
	epb = order.AppendUint64(order.AppendUint16(order.AppendUint16(epb, 4), 8), 3)
	return join(block(order, ngSection, section), block(order, ngDescribe, device), block(order, 0x0bad, []byte("unknown")), block(order, ngEnhanced, epb))
}

// segments reads all of a capture.
func segments(text []byte) (all []Segment, sum Summary, err error) {
	sum, err = Read(bytes.NewReader(text), func(s Segment) error {
		all = append(all, s)
		return nil
	})
	return all, sum, err
}

var (
	little = binary.LittleEndian
	big    = binary.BigEndian
)

// Whatever wrote it, the same packet is read.
func TestFormats(t *testing.T) {
	ip := packet(7, 2, "")
	sll := func(kind byte) []byte { return join([]byte{0, kind}, make([]byte, 12), []byte{8, 0}, ip) }
	sll2 := join([]byte{8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6}, make([]byte, 8), ip)
	tagged := join(make([]byte, 12), []byte{0x81, 0, 0, 5, 8, 0}, ip)
	for name, c := range map[string]struct {
		text      []byte
		fraction  time.Duration
		direction Direction
		dropped   uint64
	}{
		"little":           {file(little, 0xa1b2c3d4, 1, 1000, ether(ip)), 5 * time.Microsecond, Unsaid, 0},
		"big":              {file(big, 0xa1b2c3d4, 1, 1000, ether(ip)), 5 * time.Microsecond, Unsaid, 0},
		"nanoseconds":      {file(little, 0xa1b23c4d, 1, 1000, ether(ip)), 5, Unsaid, 0},
		"big, nanoseconds": {file(big, 0xa1b23c4d, 1, 1000, ether(ip)), 5, Unsaid, 0},
		"96 octets":        {file(little, 0xa1b2c3d4, 1, 96, ether(ip)), 5 * time.Microsecond, Unsaid, 0},
		"a tag":            {file(little, 0xa1b2c3d4, 1, 1000, tagged), 5 * time.Microsecond, Unsaid, 0},
		"no link layer":    {file(little, 0xa1b2c3d4, 101, 1000, ip), 5 * time.Microsecond, Unsaid, 0},
		"loopback":         {file(little, 0xa1b2c3d4, 0, 1000, join([]byte{2, 0, 0, 0}, ip)), 5 * time.Microsecond, Unsaid, 0},
		"any, out":         {file(little, 0xa1b2c3d4, 113, 1000, sll(4)), 5 * time.Microsecond, Out, 0},
		"any, in":          {file(little, 0xa1b2c3d4, 113, 1000, sll(0)), 5 * time.Microsecond, In, 0},
		"any 2, out":       {file(little, 0xa1b2c3d4, 276, 1000, sll2), 5 * time.Microsecond, Out, 0},
		"pcapng":           {ng(little, 9, 1_700_000_000_000_000_005, 1, ether(ip)), 5, Out, 3},
		"pcapng, big":      {ng(big, 6, 1_700_000_000_000_005, 1, ether(ip)), 5 * time.Microsecond, Out, 3},
		"pcapng, binary":   {ng(little, 0x80|2, 1_700_000_000*4+1, 1, ether(ip)), 250 * time.Millisecond, Out, 3},
	} {
		all, sum, err := segments(c.text)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %d segments, %v", name, len(all), err)
			continue
		}
		s := all[0]
		says := fmt.Sprintf("%v > %v %v %d id %d, stamp %v %d %d, %d", s.Src, s.Dst, s.Flags, s.Seq, s.ID, s.Stamped, s.Stamp, s.Echo, s.Payload)
		if says != "10.0.0.1:1000 > 10.0.0.2:80 S 7 id 77, stamp true 9 4, 0" || !s.Time.Equal(time.Unix(1_700_000_000, int64(c.fraction))) ||
			s.Direction != c.direction || s.Everywhere != strings.HasPrefix(name, "any") || sum.Dropped != c.dropped {
			t.Errorf("%s: %s at %v, %d, everywhere %v; %+v", name, says, s.Time, s.Direction, s.Everywhere, sum)
		}
	}
}

// The length of data is that of the IP header, and its hash that of its first octets, whatever
// the snap length has left of it.
func TestSnapLength(t *testing.T) {
	data := strings.Repeat("0123456789", 100)
	var heads []uint64
	for _, snap := range []int{2000, 96, 82, 81, 66, 60} {
		all, _, err := segments(file(little, 0xa1b2c3d4, 1, snap, ether(packet(7, 24, data))))
		if err != nil || len(all) != 1 || all[0].Payload != 1000 {
			t.Fatalf("%d octets: %+v, %v", snap, all, err)
		}
		heads = append(heads, all[0].Head)
	}
	if h := heads; h[0] == 0 || h[1] != h[0] || h[2] != h[0] || h[3] != 0 || h[4] != 0 || h[5] != 0 {
		t.Errorf("hashes %x: the first three are equal, and the others unknown", heads)
	}
	if _, sum, err := segments(file(little, 0xa1b2c3d4, 1, 40, ether(packet(7, 2, "")))); err != nil || sum.Short != 1 || sum.Segments != 0 {
		t.Errorf("%+v, %v: want one that is too short", sum, err)
	}
}

// A file that ends anywhere is read until there.
func TestCutOffAnywhere(t *testing.T) {
	whole := file(little, 0xa1b2c3d4, 1, 1000, ether(packet(7, 2, "")), ether(packet(8, 16, "")))
	each := (len(whole) - 24) / 2
	for n := 24; n < len(whole); n++ {
		all, sum, err := segments(whole[:n])
		if want := (n - 24) / each; err != nil || len(all) != want || sum.Cut != ((n-24)%each != 0) {
			t.Fatalf("%d bytes: %d segments, cut %v, %v; want %d", n, len(all), sum.Cut, err, want)
		}
	}
	text := ng(little, 9, 5, 1, ether(packet(7, 2, "")))
	for n := 4; n < len(text); n++ {
		if all, _, err := segments(text[:n]); err != nil || len(all) > 0 {
			t.Fatalf("%d bytes of %d: %d segments, %v", n, len(text), len(all), err)
		}
	}
}

// What is no capture is said to be what it is.
func TestForeign(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		is   error
		says string
	}{
		"empty":        {"", ErrForeign, "empty"},
		"short":        {"ab", ErrForeign, "2 bytes"},
		"text":         {"12:00:00 IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [S]", ErrForeign, "31 32 3a 30"},
		"gzip":         {"\x1f\x8b\x08\x00abc", ErrForeign, "gunzip"},
		"json":         {"{\"twlabRecording\": 1}", ErrForeign, "JSON"},
		"a version":    {string(little.AppendUint16(little.AppendUint32(nil, 0xa1b2c3d4), 9)) + strings.Repeat("\x00", 20), ErrDamaged, "version 9"},
		"a length":     {string(file(little, 0xa1b2c3d4, 1, 1000)) + "\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x7f\xff\xff\xff\x7f", ErrDamaged, "2147483647 bytes"},
		"a block":      {string(ng(little, 9, 5, 1, nil)) + "\x06\x00\x00\x00\xfc\xff\xff\xff", ErrDamaged, "a block of"},
		"no section":   {ngMagic + "\x1c\x00\x00\x00abcd", ErrDamaged, "order of bytes"},
		"a resolution": {string(ng(little, 99, 5, 1, nil)), ErrDamaged, "times"},
	} {
		all, _, err := segments([]byte(c.text))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n\x1b") || len(all) > 0 {
			t.Errorf("%s: %v, want %v with %q", name, err, c.is, c.says)
		}
	}
	_, sum, err := segments(file(little, 0xa1b2c3d4, 105, 1000, ether(packet(7, 2, ""))))
	if err != nil || sum.Unknown[105] != 1 || sum.Segments != 0 {
		t.Errorf("another link layer: %+v, %v", sum, err)
	}
}

// A block that claims to be long does not take memory.
func TestLongBlocksTakeNoMemory(t *testing.T) {
	text := ng(little, 9, 5, 1, nil)
	text = append(text, little.AppendUint32(little.AppendUint32(nil, 0x0bad), 0xfffffff0)...)
	got := testing.AllocsPerRun(1, func() {
		if _, sum, err := segments(text); err != nil || !sum.Cut {
			t.Errorf("%+v, %v: want one that is cut", sum, err)
		}
	})
	if got > 100 {
		t.Errorf("%v allocations", got)
	}
}

// endless is a capture without an end.
type endless struct{ head, packet []byte }

func (e *endless) Read(into []byte) (int, error) {
	if len(e.head) == 0 {
		e.head = e.packet
	}
	n := copy(into, e.head)
	e.head = e.head[n:]
	return n, nil
}

// Whoever reads may stop.
func TestStop(t *testing.T) {
	text := file(little, 0xa1b2c3d4, 1, 1000, ether(packet(7, 2, "")))
	stop, n := errors.New("enough"), 0
	_, err := Read(&endless{text, text[24:]}, func(Segment) error {
		if n++; n == 1000 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	broken := errors.New("the disk is gone")
	if _, err := Read(io.MultiReader(bytes.NewReader(text), failing{broken}), func(Segment) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("%v, want that of the reader", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// No capture makes the reader panic, and what it reads has lengths that can be.
func FuzzRead(f *testing.F) {
	f.Add(file(little, 0xa1b2c3d4, 1, 1000, ether(packet(7, 2, "")), ether(packet(8, 24, "abc"))))
	f.Add(file(big, 0xa1b23c4d, 113, 60, join([]byte{0, 4}, make([]byte, 12), []byte{8, 0}, packet(7, 24, strings.Repeat("x", 40)))))
	f.Add(ng(big, 6, 5, 276, join([]byte{8, 0}, make([]byte, 18), packet(7, 2, ""))))
	f.Add(ng(little, 9, 5, 1, ether(packet(7, 2, ""))))
	six := join([]byte{0x60, 0, 0, 0, 0, 40, 0, 64}, make([]byte, 32), []byte{6, 0, 0, 0, 0, 0, 0, 0}, packet(7, 2, "")[20:])
	f.Add(file(little, 0xa1b2c3d4, 229, 1000, six))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, sum, err := segments(text)
		for _, s := range all {
			if s.Payload < 0 || s.Payload > 1<<30 || !s.Src.IsValid() || !s.Dst.IsValid() {
				t.Errorf("%+v", s)
			}
		}
		if len(all) != sum.Segments || sum.Segments > sum.Frames || sum.Bytes > int64(len(text)) {
			t.Errorf("%d segments; %+v of %d bytes", len(all), sum, len(text))
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q", err)
		}
	})
}
