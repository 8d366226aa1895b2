package diagnose

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
	"twlab/harness/diagnose"
	"twlab/harness/foreign"
	"twlab/harness/recording"
	"twlab/harness/scriptfile"
)

// capture is a pcap of a SYN that is sent so many times, a second apart.
func capture(t *testing.T, times int) string {
	t.Helper()
	order := binary.LittleEndian
	text := order.AppendUint16(order.AppendUint16(order.AppendUint32(nil, 0xa1b2c3d4), 2), 4)
	text = order.AppendUint32(order.AppendUint32(append(text, make([]byte, 8)...), 96), 101)
	packet := make([]byte, 40)
	packet[0], packet[3], packet[9] = 0x45, 40, 6
	copy(packet[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2, 0x10, 0, 0, 80, 0, 0, 0, 7})
	packet[32], packet[33] = 5<<4, 2
	for i := range times {
		for _, n := range []int{1_700_000_000 + i, 0, len(packet), len(packet)} {
			text = order.AppendUint32(text, uint32(n))
		}
		text = append(text, packet...)
	}
	return file(t, "a.pcap", string(text))
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// twlab runs the subcommand.
func twlab(t *testing.T, arguments ...string) (said string, status int, err error) {
	t.Helper()
	var out bytes.Buffer
	c := Command()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(arguments)
	c.SetContext(t.Context())
	err = c.Execute()
	var s cli.StatusError
	switch {
	case errors.As(err, &s):
		status = s.Status
	case err != nil:
		status = cli.NotRun
	}
	return out.String(), status, err
}

func TestStatuses(t *testing.T) {
	counters := file(t, "b.txt", "TcpExtListenOverflows 3 0.0\n")
	fewer := file(t, "c.txt", "TcpExtListenOverflows 2 0.0\n")
	for name, c := range map[string]struct {
		arguments []string
		status    int
		says      string
	}{
		"nothing":              {nil, 2, "which capture?"},
		"a word":               {[]string{"a.pcap"}, 2, "--at NODE=FILE"},
		"no node":              {[]string{"--at", "a.pcap"}, 2, "want NODE=FILE"},
		"a hostile node":       {[]string{"--at", "\x1b[31m=a.pcap"}, 2, `\x1b[31m`},
		"a hostile path":       {[]string{"--at", "client=\x1b[31m"}, 2, `\x1b[31m`},
		"no file":              {[]string{"--at", "client=/nowhere/a.pcap"}, 2, "no such file"},
		"no capture":           {[]string{"--at", "client=" + counters}, 2, "this is no capture"},
		"one table":            {[]string{"--at", "client=" + capture(t, 2), "--nstat", counters}, 2, "BEFORE,AFTER"},
		"the wrong order":      {[]string{"--at", "client=" + capture(t, 2), "--nstat", counters + "," + fewer}, 2, "falls from 3 to 2"},
		"no table":             {[]string{"--at", "client=" + capture(t, 2), "--conntrack", counters + "," + counters}, 2, "want what conntrack -S prints"},
		"of which node":        {[]string{"--at", "client=" + capture(t, 2), "--at", "server=" + capture(t, 2), "--nstat", "a,b"}, 2, "of which node?"},
		"a file that is there": {[]string{"--at", "client=" + capture(t, 2), "--reproduce", counters}, 2, "nothing is overwritten"},
		"several causes":       {[]string{"--at", "client=" + capture(t, 2)}, 1, "would decide: a capture behind client, of the same time"},
		"nothing died":         {[]string{"--at", "client=" + capture(t, 1)}, 0, "1 were still waiting"},
	} {
		said, status, err := twlab(t, c.arguments...)
		if err != nil {
			said += err.Error()
		}
		if status != c.status || !strings.Contains(said, c.says) || strings.Contains(said, "\x1b") {
			t.Errorf("%s: status %d, %q; want %d with %q", name, status, said, c.status, c.says)
		}
	}
}

// What --reproduce writes of each cause is a scenario that expects it, over the version of IP of
// the capture.
func TestEachCauseCanBeReproduced(t *testing.T) {
	files, err := scenarioFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range diagnose.Catalogue() {
		for _, to := range []string{"10.0.0.2:80", "[fd00::2]:80"} {
			d := diagnose.Diagnosis{
				Attempt: recording.Attempt{Remote: netip.MustParseAddrPort(to)}, Status: diagnose.Consistent,
				Findings: []diagnose.Finding{{Cause: cause}},
			}
			text, err := scenario(d, files)
			if err != nil {
				t.Errorf("%s: %v", cause.ID, err)
				continue
			}
			f, err := scriptfile.Read("again.yaml", []byte(text))
			if err != nil || len(f.Twins) > 0 || !strings.Contains(text, "cause: "+cause.ID) {
				t.Errorf("%s: %v, %d twins\n%s", cause.ID, err, len(f.Twins), text)
			}
			if strings.Contains(text, "[4, 6]") {
				t.Errorf("%s: both versions of IP", cause.ID)
			}
		}
	}
}

func TestReproduceWritesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "again.yaml")
	said, _, _ := twlab(t, "--at", "client="+capture(t, 3), "--reproduce", path)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(said, "twlab run "+path) || !strings.HasPrefix(string(text), "# Brings about ") {
		t.Fatalf("%v\n%s\n%s", err, said, text)
	}
	if _, err := scriptfile.Read(path, text); err != nil {
		t.Error(err)
	}
}

// Connections have one shape where only the values of their addresses and numbers differ.
func TestShape(t *testing.T) {
	syn := func(src string, seq uint32) recording.Packet {
		return recording.Packet{Point: "client", Out: true, Flags: "S", Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort("10.0.0.2:80"), Seq: seq}
	}
	of := func(packets ...recording.Packet) string {
		return shape(&foreign.Connection{Recording: recording.Recording{
			Packets: packets, Steps: []recording.Step{{Result: recording.Result{Attempts: []recording.Attempt{{Outcome: "Unanswered"}}}}},
		}})
	}
	one := of(syn("10.0.0.1:1000", 7), syn("10.0.0.1:1000", 7))
	if other := of(syn("10.0.0.9:2000", 900), syn("10.0.0.9:2000", 900)); other != one {
		t.Errorf("%q, want %q", other, one)
	}
	translated := syn("10.0.0.3:1000", 7)
	for name, other := range map[string]string{
		"another number":  of(syn("10.0.0.1:1000", 7), syn("10.0.0.1:1000", 8)),
		"another address": of(syn("10.0.0.1:1000", 7), translated),
		"once more":       of(syn("10.0.0.1:1000", 7), syn("10.0.0.1:1000", 7), syn("10.0.0.1:1000", 7)),
	} {
		if other == one {
			t.Errorf("%s: the same shape", name)
		}
	}
}
