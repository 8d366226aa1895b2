// Package pcapng writes the packets of a recording as files for Wireshark and tshark.
//
// The files are made of the recording alone, and are the same each time: an interface for each
// tap, named "node/peer"; the names of the nodes; and comments on the packets by which a cause
// is proved. A frame has what the recording has of it: its first 190 octets.
package pcapng

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"twlab/harness/recording"
)

// ErrNoPackets means that a recording has no packets, or not their bytes.
var ErrNoPackets = errors.New("the recording has no bytes of packets")

// Tap is an interface where packets were recorded.
type Tap struct {
	// Name is "node/peer", or "node/interface" where the peer is not known.
	Name string
	// Packets are indices of the recording's.
	Packets []int
}

// Write writes packets of some taps into one file. The taps are those of [Taps].
func Write(to io.Writer, r *recording.Recording, taps []Tap) error {
	if len(taps) == 0 {
		return ErrNoPackets
	}
	w := writer{r: r, buffer: bufio.NewWriter(to), said: comments(r)}
	if err := w.all(taps); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	return nil
}

// writer writes one file.
type writer struct {
	r      *recording.Recording
	buffer *bufio.Writer
	said   map[int]string // comments, by packet
	file   *pcapgo.NgWriter
}

func (w *writer) all(taps []Tap) (err error) {
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: cut(w.r.By), Comment: cut(section(w.r))}}
	if w.file, err = pcapgo.NewNgWriterInterface(w.buffer, described(taps[0].Name), options); err != nil {
		return err
	}
	for _, t := range taps[1:] {
		if _, err := w.file.AddInterface(described(t.Name)); err != nil {
			return fmt.Errorf("interface %s: %w", t.Name, err)
		}
	}
	if err := w.names(); err != nil {
		return err
	}
	of := map[int]int{}
	for i, t := range taps {
		for _, k := range t.Packets {
			of[k] = i
		}
	}
	for _, k := range slices.Sorted(maps.Keys(of)) {
		if err := w.packet(k, of[k]); err != nil {
			return fmt.Errorf("packet %d: %w", k, err)
		}
	}
	for i, t := range taps {
		// A recording that has lost packets has none.
		seen := pcapgo.NgInterfaceStatistics{PacketsReceived: uint64(len(t.Packets)), LastUpdate: w.r.Began.Add(w.r.Took)}
		if err := w.file.WriteInterfaceStats(i, seen); err != nil {
			return fmt.Errorf("interface %s: %w", t.Name, err)
		}
	}
	if err := w.file.Flush(); err != nil {
		return err
	}
	return w.buffer.Flush()
}

func described(name string) pcapgo.NgInterface {
	const most = 190 // octets of a frame
	return pcapgo.NgInterface{Name: cut(name), LinkType: layers.LinkTypeEthernet, SnapLength: most}
}

func (w *writer) packet(k, tap int) error {
	p := w.r.Packets[k]
	flags := pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if p.Out {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	options := pcapgo.NgPacketOptions{Flags: &flags}
	if said := w.said[k]; said != "" {
		options.Comments = []string{cut(said)}
	}
	return w.file.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: p.Time, CaptureLength: len(p.Raw), Length: max(len(p.Raw), onTheWire(p.Raw)), InterfaceIndex: tap,
	}, p.Raw, options)
}

// onTheWire is the length of a frame before it was cut, from its IP header; 0 if it is too
// short for that.
func onTheWire(frame []byte) int {
	const ethernet, six = 14, 40 // octets of headers
	if len(frame) < ethernet+6 {
		return 0
	}
	ip := frame[ethernet:]
	if ip[0]>>4 == 6 {
		return ethernet + six + int(binary.BigEndian.Uint16(ip[4:]))
	}
	return ethernet + int(binary.BigEndian.Uint16(ip[2:]))
}

// names writes the names of the nodes: a name resolution block, which pcapgo does not have.
func (w *writer) names() error {
	if err := w.file.Flush(); err != nil {
		return err
	}
	const blockType, four, six = 4, 1, 2
	var body []byte
	for _, node := range slices.Sorted(maps.Keys(w.r.Nodes)) {
		for _, a := range w.r.Nodes[node].Addresses {
			kind := uint16(four)
			if a.Is6() {
				kind = six
			}
			value := append(append(a.AsSlice(), cut(node)...), 0)
			body = binary.LittleEndian.AppendUint16(body, kind)
			body = binary.LittleEndian.AppendUint16(body, uint16(len(value)))
			body = append(append(body, value...), make([]byte, -len(value)&3)...)
		}
	}
	body = append(body, 0, 0, 0, 0) // the end of the records
	length := uint32(len(body)) + 12
	block := binary.LittleEndian.AppendUint32(nil, blockType)
	block = binary.LittleEndian.AppendUint32(block, length)
	block = binary.LittleEndian.AppendUint32(append(block, body...), length)
	_, err := w.buffer.Write(block)
	return err
}

// cut makes a text short enough for an option, whose length has 16 bits.
func cut(text string) string {
	const most = 4000
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
