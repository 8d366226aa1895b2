//go:build linux

package observe

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

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

// wireLength returns the length of the frame before it was cut, from the length in its IP
// header; 0 when the frame is too short for that.
func wireLength(frame []byte) int {
	if len(frame) < ethernetHeader+6 {
		return 0
	}
	ip := frame[ethernetHeader:]
	if ip[0]>>4 == 6 {
		return ethernetHeader + ipv6Header + int(binary.BigEndian.Uint16(ip[4:]))
	}
	return ethernetHeader + int(binary.BigEndian.Uint16(ip[2:]))
}
