package pcapng

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

var (
	began  = time.Unix(1_700_000_000, 123_456_789).UTC()
	client = netip.MustParseAddrPort("10.0.0.2:50000")
	public = netip.MustParseAddrPort("10.20.0.1:50000")
	server = netip.MustParseAddrPort("10.20.0.9:80")
)

// frame is a SYN.
func frame(t *testing.T, src, dst netip.AddrPort, seq uint32) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: seq, SYN: true, Window: 64240}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	ethernet := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ethernet, ip, tcp); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes()[:54]) // without padding
}

// run is the recording of a client whose SYN is translated, and ends at the server.
func run(t *testing.T) recording.Recording {
	r := recording.Recording{
		Version: recording.FormatVersion, By: "twlab x", Scenario: "no answer", Began: began, Took: time.Second, Planned: 1,
		Nodes: map[string]recording.Node{
			"client": {Addresses: []netip.Addr{client.Addr()}}, "gateway": {Addresses: []netip.Addr{public.Addr(), netip.MustParseAddr("fd00::1")}},
			"server": {Addresses: []netip.Addr{server.Addr()}},
		},
		Steps: []recording.Step{{Number: 1, Verb: "connect", Ended: time.Second, Result: recording.Result{Attempts: []recording.Attempt{{
			Node: "client", Outcome: "TimedOut", Errno: "ETIMEDOUT", Took: time.Second, Local: client, Remote: server, SYNs: 1,
		}}}}},
	}
	for i, p := range []recording.Packet{
		{Point: "client", Interface: "eth0", Out: true, Src: client}, {Point: "gateway", Interface: "client", Src: client},
		{Point: "gateway", Interface: "eth0", Out: true, Src: public}, {Point: "server", Interface: "gateway", Src: public},
	} {
		p.Time, p.Dst, p.Seq, p.Flags = began.Add(time.Duration(i)*time.Millisecond), server, 7, "S"
		p.Raw = frame(t, p.Src, server, 7)
		r.Packets = append(r.Packets, p)
	}
	return r
}

func written(t *testing.T, r recording.Recording, taps []Tap) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, &r, taps); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// why is what the engine says of the attempt.
func why(r *recording.Recording) string { return diagnose.Recording(r)[0].Short() }

func TestTapsAreNamedByTheirLinks(t *testing.T) {
	r := run(t)
	var names []string
	for _, tap := range Taps(&r) {
		names = append(names, tap.Name)
	}
	if want := []string{"client/gateway", "gateway/client", "gateway/server", "server/gateway"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	// Without its first packet, nobody knows where the client's link leads to.
	r.Packets = r.Packets[:1]
	if got := Taps(&r)[0].Name; got != "client/eth0" {
		t.Errorf("%q, want client/eth0", got)
	}
}

func TestReadAgain(t *testing.T) {
	r := run(t)
	r.Packets[3].Raw = r.Packets[3].Raw[:40] // cut
	text := written(t, r, Taps(&r))
	if again := written(t, r, Taps(&r)); !bytes.Equal(text, again) {
		t.Error("the second file is another one")
	}
	in, err := pcapgo.NewNgReader(bytes.NewReader(text), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if info := in.SectionInfo(); info.Application != "twlab x" || !strings.Contains(info.Comment, "step 1, 10.0.0.2:50000 > 10.20.0.9:80 failed: "+why(&r)) {
		t.Errorf("%+v", info)
	}
	for i, want := range []struct {
		tap, comment string
		out          bool
	}{
		{"client/gateway", "", true}, {"gateway/client", "", false}, {"gateway/server", "", true},
		{"server/gateway", "#p1 step 1, " + why(&r) + ": SYN, no answer", false},
	} {
		data, info, options, err := in.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		at, err := in.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Packets[i]
		if !bytes.Equal(data, p.Raw) || info.Length != 54 || !info.Timestamp.Equal(p.Time) || at.Name != want.tap {
			t.Errorf("packet %d: %d of %d octets at %v by %s, want %+v at %v", i, len(data), info.Length, info.Timestamp, at.Name, want, p.Time)
		}
		if got := strings.Join(options.Comments, "|"); got != want.comment || (options.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound) != want.out {
			t.Errorf("packet %d: %q, %+v, want %+v", i, got, options.Flags, want)
		}
	}
	if _, _, err := in.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

func TestNothingToWrite(t *testing.T) {
	r := run(t)
	for i := range r.Packets {
		r.Packets[i].Raw = nil
	}
	if err := Write(io.Discard, &r, Taps(&r)); !errors.Is(err, ErrNoPackets) {
		t.Errorf("%v, want %v", err, ErrNoPackets)
	}
	r = run(t)
	if err := Write(broken{}, &r, Taps(&r)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, want that of the writer", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// tshark runs a program of Wireshark, which does not read any configuration of the user's.
func tshark(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: hack/bootstrap --with-tshark", name)
	}
	c := exec.CommandContext(t.Context(), path, arguments...)
	c.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	var out, told bytes.Buffer
	c.Stdout, c.Stderr = &out, &told
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, told.String())
	}
	return out.String()
}

// Wireshark's programs read the file without a complaint, with names and comments.
func TestWiresharkReadsIt(t *testing.T) {
	r := run(t)
	r.Nodes["client\x1b[31m"] = recording.Node{Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}
	file := filepath.Join(t.TempDir(), "packets.pcapng")
	if err := os.WriteFile(file, written(t, r, Taps(&r)), 0o644); err != nil { //nolint:gosec // for tshark, which drops its privileges
		t.Fatal(err)
	}
	got := tshark(t, "tshark", "-r", file, "-N", "n", "-T", "fields", "-e", "frame.interface_name", "-e", "ip.src_host", "-e", "ip.dst_host", "-e", "frame.packet_flags_direction", "-e", "frame.comment")
	want := "client/gateway\tclient\tserver\t0x00000002\t\ngateway/client\tclient\tserver\t0x00000001\t\n" +
		"gateway/server\tgateway\tserver\t0x00000002\t\nserver/gateway\tgateway\tserver\t0x00000001\t#p1 step 1, " + why(&r) + ": SYN, no answer\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := tshark(t, "capinfos", file); !strings.Contains(got, "Number of packets = 1") || !strings.Contains(got, "gateway/server") || !strings.Contains(got, "failed: "+why(&r)) {
		t.Errorf("capinfos:\n%s", got)
	}
}
