//go:build linux

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const ethernetHeader = 14

// Direction says whether a packet came into the namespace through the tapped
// interface or left it there.
type Direction string

// The directions.
const (
	In  Direction = "In"
	Out Direction = "Out"
)

// Flags is the octet of control bits of a TCP header (RFC 9293, section 3.1).
type Flags uint8

// The control bits.
const (
	FlagFIN Flags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
)

// Has reports whether all of these bits are set.
func (f Flags) Has(bits Flags) bool { return f&bits == bits }

// String writes the bits as tcpdump does: "S" for SYN, "S." for SYN and ACK,
// "." for a bare ACK, "R", "F.", "P.", and "none".
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	var text strings.Builder
	for _, bit := range []struct {
		flag   Flags
		letter byte
	}{
		{FlagFIN, 'F'}, {FlagSYN, 'S'}, {FlagRST, 'R'}, {FlagPSH, 'P'},
		{FlagACK, '.'}, {FlagURG, 'U'}, {FlagECE, 'E'}, {FlagCWR, 'W'},
	} {
		if f.Has(bit.flag) {
			text.WriteByte(bit.letter)
		}
	}
	return text.String()
}

// TimestampOption is the TCP timestamp option (RFC 7323, section 3). The zero value means
// that the segment had none.
type TimestampOption struct {
	Present bool   `json:"present,omitempty"`
	Value   uint32 `json:"value,omitempty"` // TSval, the sender's clock
	Echo    uint32 `json:"echo,omitempty"`  // TSecr
}

// Packet is one TCP segment over IPv4 as recorded at one interface. A segment that crosses
// three machines gives up to six of them.
type Packet struct {
	Point     string          `json:"point"`     // the machine, as named to OpenTap
	Interface string          `json:"interface"` // the interface there
	Time      time.Time       `json:"time"`      // UTC, stamped by the kernel
	Direction Direction       `json:"direction"`
	Src       netip.AddrPort  `json:"src"`
	Dst       netip.AddrPort  `json:"dst"`
	ID        uint16          `json:"id"` // IP identification; 0 on answers that Linux sends without a full socket
	Seq       uint32          `json:"seq"`
	Ack       uint32          `json:"ack"`
	Flags     Flags           `json:"flags"`
	Timestamp TimestampOption `json:"timestamp"`
	Payload   int             `json:"payload"` // octets of data after the TCP header
	Raw       []byte          `json:"raw"`     // the frame from its Ethernet header on, cut at 190 octets; read only
}

// String writes the packet in one line in the manner of tcpdump:
//
//	12:00:00.000000 gateway/eth1 Out 10.0.0.2.40001 > 10.20.0.3.80: [S.], seq 1, ack 2, TS val 3 ecr 4, length 0
func (p Packet) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s %s.%d > %s.%d: [%s], seq %d", p.Time.Format("15:04:05.000000"), p.place(), p.Direction,
		p.Src.Addr(), p.Src.Port(), p.Dst.Addr(), p.Dst.Port(), p.Flags, p.Seq)
	if p.Flags.Has(FlagACK) {
		fmt.Fprintf(&text, ", ack %d", p.Ack)
	}
	if p.Timestamp.Present {
		fmt.Fprintf(&text, ", TS val %d ecr %d", p.Timestamp.Value, p.Timestamp.Echo)
	}
	fmt.Fprintf(&text, ", length %d", p.Payload)
	return text.String()
}

// place names the tap: "client0/eth0".
func (p Packet) place() string { return p.Point + "/" + p.Interface }

// decoder decodes frames into Packets. It reuses its layers for each frame, to allocate
// little, so it is not safe for concurrent use.
type decoder struct {
	ethernet layers.Ethernet
	ip       layers.IPv4
	tcp      layers.TCP
	parser   *gopacket.DecodingLayerParser
	found    []gopacket.LayerType
}

func newDecoder() *decoder {
	d := &decoder{}
	d.parser = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &d.ethernet, &d.ip, &d.tcp)
	d.parser.IgnoreUnsupported = true // the payload is not needed
	return d
}

// decode fills in all that the frame itself contains.
func (d *decoder) decode(frame []byte) (Packet, error) {
	if err := d.parser.DecodeLayers(frame, &d.found); err != nil {
		return Packet{}, fmt.Errorf("decode frame: %w", err)
	}
	if !slices.Contains(d.found, layers.LayerTypeTCP) {
		return Packet{}, errors.New("decode frame: no TCP over IPv4 in it")
	}
	src, _ := netip.AddrFromSlice(d.ip.SrcIP)
	dst, _ := netip.AddrFromSlice(d.ip.DstIP)
	p := Packet{
		Src:   netip.AddrPortFrom(src, uint16(d.tcp.SrcPort)),
		Dst:   netip.AddrPortFrom(dst, uint16(d.tcp.DstPort)),
		ID:    d.ip.Id,
		Seq:   d.tcp.Seq,
		Ack:   d.tcp.Ack,
		Flags: Flags(d.tcp.Contents[13]),
		// The length comes from the IP header, because the frame may be cut.
		Payload: int(d.ip.Length) - len(d.ip.Contents) - len(d.tcp.Contents),
		Raw:     frame,
	}
	for _, option := range d.tcp.Options {
		if option.OptionType == layers.TCPOptionKindTimestamps && len(option.OptionData) == 8 {
			p.Timestamp = TimestampOption{
				Present: true,
				Value:   binary.BigEndian.Uint32(option.OptionData[:4]),
				Echo:    binary.BigEndian.Uint32(option.OptionData[4:]),
			}
		}
	}
	return p, nil
}

// WritePcapng writes the packets in time order as one pcapng file, with
// nanosecond timestamps and one interface for each pair of machine and
// interface, named "client0/eth0". The direction is in the packet's flags and,
// for readers that do not show those, in its comment.
func WritePcapng(w io.Writer, packets []Packet) error {
	packets = inTimeOrder(packets)
	var names []string
	index := map[string]int{}
	for _, p := range packets {
		if _, ok := index[p.place()]; !ok {
			index[p.place()] = len(names)
			names = append(names, p.place())
		}
	}
	if len(names) == 0 {
		names = []string{"none"} // the format needs at least one interface
	}
	out, err := pcapgo.NewNgWriterInterface(w, ngInterface(names[0]), pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "twlab"},
	})
	if err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	for _, name := range names[1:] {
		if _, err := out.AddInterface(ngInterface(name)); err != nil {
			return fmt.Errorf("write pcapng: interface %s: %w", name, err)
		}
	}
	for _, p := range packets {
		if err := writePacket(out, index[p.place()], p); err != nil {
			return fmt.Errorf("write pcapng: %s: %w", p, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	return nil
}

func ngInterface(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: snapLength}
}

func writePacket(out *pcapgo.NgWriter, index int, p Packet) error {
	direction := pcapgo.NgEpbFlagDirectionInbound
	if p.Direction == Out {
		direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	return out.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp:      p.Time,
		CaptureLength:  len(p.Raw),
		Length:         max(len(p.Raw), wireLength(p.Raw)),
		InterfaceIndex: index,
	}, p.Raw, pcapgo.NgPacketOptions{
		Comments: []string{p.place() + " " + string(p.Direction)},
		Flags:    &pcapgo.NgEpbFlags{Direction: direction},
	})
}

// wireLength returns the length of the frame before it was cut, from the total length in
// its IPv4 header; 0 when the frame is too short for that.
func wireLength(frame []byte) int {
	if len(frame) < ethernetHeader+4 {
		return 0
	}
	return ethernetHeader + int(binary.BigEndian.Uint16(frame[ethernetHeader+2:]))
}

// inTimeOrder returns a sorted copy; packets of the same instant keep their order.
func inTimeOrder(packets []Packet) []Packet {
	sorted := slices.Clone(packets)
	slices.SortStableFunc(sorted, func(a, b Packet) int { return a.Time.Compare(b.Time) })
	return sorted
}
