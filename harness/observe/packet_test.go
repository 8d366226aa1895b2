//go:build linux

package observe

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"
)

// A SYN from 10.0.0.2:40001 to 10.20.0.3:80 with MSS, SACK, timestamps, NOP and window scale.
const synFrame = "0200000000010200000000020800" +
	"4500003c1a2b40004006000a" + "0a000002" + "0a140003" +
	"9c410050" + "40100000" + "00000000" + "a002faf0" + "00000000" +
	"020405b4" + "0402080a" + "00175f6a" + "00000007" + "01030307"

func frame(t testing.TB) []byte {
	t.Helper()
	raw, err := hex.DecodeString(synFrame)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDecode(t *testing.T) {
	raw := frame(t)
	p, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	p.Point, p.Interface, p.Direction = "client0", "eth0", Out
	p.Time = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	const want = "03:04:05.000006 client0/eth0 Out 10.0.0.2.40001 > 10.20.0.3.80: [S], seq 1074790400, TS val 1531754 ecr 7, length 0"
	if got := p.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.ID != 0x1a2b || p.Flags != FlagSYN {
		t.Errorf("got ID %#x, flags %s", p.ID, p.Flags)
	}

	// A frame that is cut still tells how long its payload was, and what came
	// before leaves no trace in it.
	cut := bytes.Clone(raw[:14+20+20])
	cut[14+2], cut[14+3] = 0x05, 0xdc // total length 1500
	cut[14+20+12], cut[14+20+13] = 0x50, 0x18
	p, err = decode(cut)
	if err != nil {
		t.Fatal(err)
	}
	if p.Payload != 1460 || p.Flags.String() != "P." || p.Timestamp.Present {
		t.Errorf("cut frame: got payload %d, flags %s, timestamps %v", p.Payload, p.Flags, p.Timestamp.Present)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, raw := range map[string][]byte{
		"short":  frame(t)[:40],
		"UDP":    append(frame(t)[:14+9], append([]byte{17}, frame(t)[14+10:]...)...),
		"no IP":  append(frame(t)[:12], 0x08, 0x06, 0, 1),
		"no TCP": frame(t)[:14+20],
	} {
		if p, err := decode(raw); err == nil {
			t.Errorf("%s: got %s, want an error", name, p)
		}
	}
}

func TestTCPFilter(t *testing.T) {
	vm, err := bpf.NewVM(tcpFilter())
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, value byte) []byte {
		raw := bytes.Clone(frame(t))
		raw[at] = value
		return raw
	}
	long := append(bytes.Clone(frame(t)), make([]byte, 1000)...)
	udp6, icmp6 := ipv6Frame(t), ipv6Frame(t)
	udp6[14+6], icmp6[14+6] = 17, 58
	for name, c := range map[string]struct {
		raw  []byte
		want int
	}{
		"TCP":            {frame(t), len(frame(t))},
		"long":           {long, snapLength},
		"UDP":            {change(ethernetHeader+9, 17), 0},
		"ARP":            {change(13, 0x06), 0},
		"IPv6":           {ipv6Frame(t), len(ipv6Frame(t))},
		"IPv6 and UDP":   {udp6, 0},
		"IPv6 and ICMP":  {icmp6, 0},
		"first fragment": {change(ethernetHeader+6, 0x20), len(frame(t))},
		"later fragment": {change(ethernetHeader+7, 185), 0},
		"last fragment":  {change(ethernetHeader+6, 0x01), 0},
	} {
		got, err := vm.Run(c.raw)
		if err != nil || min(got, len(c.raw)) != c.want {
			t.Errorf("%s: got %d octets, %v, want %d", name, got, err, c.want)
		}
	}
}

// An extension header is its type, and its octets with the type of the next one to be
// filled in.
type extension struct {
	kind   byte
	octets string
}

const (
	hopByHop           = "0000" + "0104" + "00000000" // padding
	routing            = "0002" + "0300" + "00000000" + "fd000014000000000000000000000003"
	destination        = "0001" + "010c" + "000000000000000000000000"
	atomicFragment     = "0000" + "0000" + "12345678"
	firstFragment      = "0000" + "0001" + "12345678"
	laterFragment      = "0000" + "00b9" + "12345678"
	unknownNextHeader  = 253 // for experiments, RFC 3692
	ipv6SYNDescription = "[fd00:a::2]:40001 [fd00:14::3]:80"
)

// ipv6Frame is the SYN over IPv6, from fd00:a::2 to fd00:14::3 with flow label 0xabcde.
func ipv6Frame(t testing.TB, extensions ...extension) []byte {
	t.Helper()
	v4 := frame(t)
	raw := append(bytes.Clone(v4[:12]), 0x86, 0xdd, 0x60, 0x0a, 0xbc, 0xde, 0, 0, 6, 64)
	for _, a := range []string{"fd00:a::2", "fd00:14::3"} {
		raw = append(raw, netip.MustParseAddr(a).AsSlice()...)
	}
	at := 14 + 6 // where the type of the next header is
	for _, e := range extensions {
		octets, err := hex.DecodeString(e.octets)
		if err != nil {
			t.Fatal(err)
		}
		raw[at], at = e.kind, len(raw)
		raw = append(raw, octets...)
		raw[at] = 6
	}
	raw = append(raw, v4[14+20:]...)
	binary.BigEndian.PutUint16(raw[14+4:], uint16(len(raw)-14-40))
	return raw
}

// Whatever may stand before TCP over IPv6 is passed over, and what may not is no TCP.
func TestDecodeIPv6(t *testing.T) {
	vm, err := bpf.NewVM(tcpFilter())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		extensions []extension
		fragment   bool
		is         error
	}{
		"none":            {},
		"hop-by-hop":      {extensions: []extension{{0, hopByHop}}},
		"routing":         {extensions: []extension{{43, routing}}},
		"destination":     {extensions: []extension{{60, destination}}},
		"atomic fragment": {extensions: []extension{{44, atomicFragment}}},
		"first fragment":  {extensions: []extension{{44, firstFragment}}, fragment: true},
		"later fragment":  {extensions: []extension{{44, laterFragment}}, is: errNoTCP},
		"three of them":   {extensions: []extension{{0, hopByHop}, {60, destination}, {43, routing}}},
		"four of them":    {extensions: []extension{{0, hopByHop}, {60, destination}, {43, routing}, {44, atomicFragment}}},
		"an unknown one":  {extensions: []extension{{0, hopByHop}, {unknownNextHeader, hopByHop}}, is: errNoTCP},
	} {
		t.Run(name, func(t *testing.T) {
			raw := ipv6Frame(t, c.extensions...)
			passes := snapLength
			if c.is != nil {
				passes = 0
			}
			if n, err := vm.Run(raw); err != nil || n != passes {
				t.Errorf("the filter passes %d octets of it, %v, want %d", n, err, passes)
			}
			p, err := decode(raw)
			if c.is != nil {
				if !errors.Is(err, c.is) {
					t.Errorf("got %v, %v, want %v", p, err, c.is)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Src.String() + " " + p.Dst.String(); got != ipv6SYNDescription {
				t.Errorf("got %s, want %s", got, ipv6SYNDescription)
			}
			if p.Flags != FlagSYN || p.Seq != 0x40100000 || p.FlowLabel != 0xabcde || p.Payload != 0 || p.ID != 0 ||
				p.Timestamp != (TimestampOption{true, 0x175f6a, 7}) || p.Fragment != c.fragment {
				t.Errorf("got %+v", p)
			}
			if wireLength(raw) != len(raw) {
				t.Errorf("length on the wire: %d, want %d", wireLength(raw), len(raw))
			}
			for end := range len(raw) { // cut anywhere, it is not another packet
				if cut, err := decode(raw[:end]); err == nil {
					t.Errorf("cut at %d: got %v, want an error", end, cut)
				}
			}
		})
	}
}

// No frame makes it panic, or gives a packet with lengths that cannot be.
func FuzzDecode(f *testing.F) {
	f.Add(frame(f))
	f.Add(ipv6Frame(f))
	f.Add(ipv6Frame(f, extension{0, hopByHop}, extension{60, destination}, extension{43, routing}))
	f.Add(ipv6Frame(f, extension{44, firstFragment}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := decode(frame)
		if err != nil {
			return
		}
		if p.Payload < 0 || !p.Src.IsValid() || p.Src.Addr().Is4() != p.Dst.Addr().Is4() || len(p.Raw) != len(frame) {
			t.Errorf("got %+v", p)
		}
		if p.Src.Addr().Is6() && p.ID != 0 || p.Src.Addr().Is4() && p.FlowLabel != 0 {
			t.Errorf("got %+v", p)
		}
		_ = p.String()
	})
}

func TestFlagsString(t *testing.T) {
	for flags, want := range map[Flags]string{
		0: "none", FlagSYN: "S", FlagSYN | FlagACK: "S.", FlagACK: ".", FlagRST: "R", FlagRST | FlagACK: "R.",
		FlagFIN | FlagACK: "F.", FlagPSH | FlagACK: "P.", FlagSYN | FlagECE | FlagCWR: "SEW", FlagACK | FlagURG: ".U",
	} {
		if got := flags.String(); got != want {
			t.Errorf("%08b: got %q, want %q", flags, got, want)
		}
	}
}

func TestWritePcapng(t *testing.T) {
	raw := frame(t)
	cut := bytes.Clone(raw[:60])
	six := ipv6Frame(t)
	start := time.Unix(1_700_000_000, 123_456_789).UTC()
	packets := []Packet{
		{Point: "gateway", Interface: "client0", Time: start.Add(time.Nanosecond), Direction: In, Raw: raw},
		{Point: "client0", Interface: "eth0", Time: start, Direction: Out, Raw: raw},
		{Point: "gateway", Interface: "client0", Time: start.Add(time.Second), Direction: Out, Raw: cut},
		{Point: "gateway", Interface: "client0", Time: start.Add(2 * time.Second), Direction: Out, Raw: six[:60]},
	}
	var file bytes.Buffer
	if err := WritePcapng(&file, packets); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		place   string
		comment string
		time    time.Time
		length  int
		flag    pcapgo.NgEpbFlag
	}{
		{"client0/eth0", "client0/eth0 Out", start, len(raw), pcapgo.NgEpbFlagDirectionOutbound},
		{"gateway/client0", "gateway/client0 In", start.Add(time.Nanosecond), len(raw), pcapgo.NgEpbFlagDirectionInbound},
		{"gateway/client0", "gateway/client0 Out", start.Add(time.Second), len(raw), pcapgo.NgEpbFlagDirectionOutbound},
		{"gateway/client0", "gateway/client0 Out", start.Add(2 * time.Second), len(six), pcapgo.NgEpbFlagDirectionOutbound},
	} {
		_, info, options, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		place, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if place.Name != want.place || !info.Timestamp.Equal(want.time) || info.Length != want.length {
			t.Errorf("got %s at %s, length %d, want %+v", place.Name, info.Timestamp, info.Length, want)
		}
		if len(options.Comments) != 1 || options.Comments[0] != want.comment || options.Flags.Direction != want.flag {
			t.Errorf("got options %+v, want %+v", options, want)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last packet: got %v, want EOF", err)
	}
	if packets[0].Point != "gateway" {
		t.Error("the caller's list was sorted")
	}
}

func TestWritePcapngOfNothing(t *testing.T) {
	var file bytes.Buffer
	if err := WritePcapng(&file, nil); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWritePcapngTellsOfFailure(t *testing.T) {
	err := WritePcapng(brokenWriter{}, []Packet{{Src: netip.AddrPort{}, Raw: frame(t)}})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the writer's error", err)
	}
}
