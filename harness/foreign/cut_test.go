package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/internal/kepttest"
	"twlab/harness/recording"
)

// kept are the recordings that package diagnose keeps of each cause. Tests share what these refer to.
var kept = kepttest.Shared("../diagnose/testdata")

// frame is a packet of a recording as Ethernet over IPv4; its data is made up.
func frame(p recording.Packet) []byte {
	options := []byte(nil)
	if p.Timestamp != nil {
		options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, p.Timestamp.Value), p.Timestamp.Echo)
	}
	tcp := make([]byte, 20, 20+len(options))
	binary.BigEndian.PutUint16(tcp, p.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], p.Seq)
	binary.BigEndian.PutUint32(tcp[8:], p.Ack)
	tcp[12] = byte(20+len(options)) / 4 << 4
	for i, letter := range "FSRP.UEW" {
		if strings.ContainsRune(p.Flags, letter) {
			tcp[13] |= 1 << i
		}
	}
	tcp = append(tcp, options...)
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)+p.Payload))
	binary.BigEndian.PutUint16(ip[4:], p.ID)
	copy(ip[12:], p.Src.Addr().AsSlice())
	copy(ip[16:], p.Dst.Addr().AsSlice())
	return bytes.Join([][]byte{make([]byte, 12), {8, 0}, ip, tcp, bytes.Repeat([]byte{byte(p.Seq)}, p.Payload)}, nil)
}

// file writes packets as a pcap in nanoseconds, of at most snap octets each, by a clock that is
// ahead.
func file(t *testing.T, name string, packets []recording.Packet, ahead time.Duration, snap int) string {
	t.Helper()
	order := binary.LittleEndian
	text := order.AppendUint16(order.AppendUint16(order.AppendUint32(nil, 0xa1b23c4d), 2), 4)
	text = order.AppendUint32(order.AppendUint32(append(text, make([]byte, 8)...), uint32(snap)), 1)
	for _, p := range packets {
		at, f := p.Time.Add(ahead), frame(p)
		part := f[:min(len(f), snap)]
		for _, n := range []int64{at.Unix(), int64(at.Nanosecond()), int64(len(part)), int64(len(f))} {
			text = order.AppendUint32(text, uint32(n))
		}
		text = append(text, part...)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// at are the packets of a recording at one interface.
func at(r recording.Recording, node, name string) (all []recording.Packet) {
	for _, p := range r.Packets {
		if p.Point == node && p.Interface == name {
			all = append(all, p)
		}
	}
	return all
}

// view is a choice of nodes whose packets are captured.
type view struct {
	name  string
	nodes func(node string) bool
}

var views = []view{
	{"the client", func(n string) bool { return n == "client" }},
	{"the server", isServer},
	{"both ends", func(n string) bool { return n == "client" || isServer(n) }},
	{"the boxes", func(n string) bool { return n != "client" && !isServer(n) }},
	{"client and boxes", func(n string) bool { return !isServer(n) }},
	{"everywhere", func(string) bool { return true }},
}

// sources writes the captures of a view. The clock of each node is a second further ahead.
func sources(t *testing.T, r recording.Recording, v view, snap int) (all []Source) {
	t.Helper()
	as := func(node string) string {
		if ending(r, node) && !isServer(node) && node != "client" {
			return "server-" + node
		}
		return node
	}
	var order []string
	places := map[string][]string{}
	for _, p := range r.Packets {
		if !slices.Contains(order, p.Point) {
			order = append(order, p.Point)
		}
		if !slices.Contains(places[p.Point], p.Interface) {
			places[p.Point] = append(places[p.Point], p.Interface)
		}
	}
	for i, node := range order {
		if !v.nodes(as(node)) || node == "server" && slices.Contains(order, "lb") {
			continue
		}
		for k, name := range places[node] {
			path := file(t, fmt.Sprintf("%s-%d.pcap", node, k), at(r, node, name), time.Duration(i)*time.Second, snap)
			all = append(all, Source{as(node), path})
		}
	}
	return all
}

// ending reports whether a node is where connections end: it owns all destinations of the SYNs that
// come in, and sends none on.
func ending(r recording.Recording, node string) (yes bool) {
	for _, p := range r.Packets {
		switch {
		case p.Point != node || p.Flags != "S":
		case p.Out && slices.ContainsFunc(r.Packets, func(o recording.Packet) bool { return o.Point == node && !o.Out && o.Flags == "S" && o.Seq == p.Seq }):
			return false
		case !p.Out && !slices.Contains(r.Nodes[node].Addresses, p.Dst.Addr()):
			return false
		case !p.Out:
			yes = true
		}
	}
	return yes
}

// Captures cut out of our own recordings never exclude the cause that the whole recording
// proves, and prove no other.
func TestNoViewExcludesTheCause(t *testing.T) {
	looked := map[string]int{}
	for name, r := range kept(t) {
		for _, v := range views {
			for _, snap := range []int{65535, 96} {
				files := sources(t, r, v, snap)
				if len(files) == 0 {
					continue
				}
				result, err := Read(t.Context(), files, Options{})
				if err != nil {
					t.Fatalf("%s, %s: %v", name, v.name, err)
				}
				all := diagnose.Recording(&r)
				for _, want := range all {
					c := find(result, want, all)
					if c == nil {
						continue
					}
					looked[v.name]++
					got := c.Diagnose()
					if !fits(got, want.Cause()) || got.Status == diagnose.Proved && got.Cause() != want.Cause() {
						t.Errorf("%s, %s, step %d: %s, want %s\n%v\n%v", name, v.name, want.Step, got.Short(), want.Cause(), got.Account(), got.Excluded)
					}
				}
			}
		}
	}
	for _, v := range views {
		if looked[v.name] < 10 {
			t.Errorf("%s: only %d attempts were looked at", v.name, looked[v.name])
		}
	}
	t.Logf("%v", looked)
}

// find is the connection of captures that is an attempt of the recording, by its first number.
func find(result *Result, d diagnose.Diagnosis, all []diagnose.Diagnosis) *Connection {
	if d.Symptom == diagnose.Fine || len(d.Lives) == 0 || d.Lives[0].First().Flags != "S" {
		return nil
	}
	isn := d.Lives[0].First().Seq
	for _, other := range all {
		same := len(other.Lives) > 0 && other.Lives[0].First().Seq == isn && other.Step != d.Step
		// Two attempts with one number cannot be told apart here, and a machine that calls itself
		// is both ends, for which there is no name.
		if same || slices.ContainsFunc(d.SYNs, func(l diagnose.Life) bool { return l.Last().Point == d.Attempt.Node && !l.Last().Out }) {
			return nil
		}
	}
	for i := range result.Connections {
		c := &result.Connections[i]
		if slices.ContainsFunc(c.Recording.Packets, func(p recording.Packet) bool { return p.Flags == "S" && p.Seq == isn }) && c.Began {
			return c
		}
	}
	return nil
}

func fits(d diagnose.Diagnosis, cause string) bool {
	is := func(f diagnose.Finding) bool { return f.Cause.ID == cause }
	return slices.ContainsFunc(d.Findings, is) || slices.ContainsFunc(d.Others, is)
}
