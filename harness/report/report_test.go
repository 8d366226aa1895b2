package report

import (
	"encoding/xml"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"twlab/harness/recording"
)

const hostile = "a\x1b[31m\rb\u202ec\u2028|`<script>_*"

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"client > vip:80, 客户端 ü": "client > vip:80, 客户端 ü",
		"a\x1b[31m":              `a\x1b[31m`,
		"a\rb\nc\td":             `a\x0db\nc\x09d`,
		"a\u202eb\u200bc":        `a\u202eb\u200bc`,
		"a\u2028b":               `a\u2028b`,
		"\x9b31m\u009b":          `\ufffd31m\u009b`,
		"\U000e0041":             `\ue0041`,
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

var (
	client = netip.MustParseAddrPort("10.0.0.2:50000")
	public = netip.MustParseAddrPort("10.20.0.1:50000")
	vip    = netip.MustParseAddrPort("10.30.0.1:80")
	began  = time.Unix(1_700_000_000, 0).UTC()
)

// run is the recording of a client behind a gateway, which did not get an answer.
func run() recording.Recording {
	return recording.Recording{
		Version: recording.FormatVersion, By: "twlab x", Scenario: "no answer", File: recording.File{Name: "no.yaml", Text: "twlab: 1\n"},
		Began: began, Took: 3 * time.Second, Planned: 2,
		Nodes: map[string]recording.Node{
			"client": {Kernel: "6.18.1", Addresses: []netip.Addr{client.Addr()}, Settings: map[string]recording.Setting{
				recording.SYNRetries: {Value: "6"}, recording.LinearTimeouts: {Value: "4", Said: true}, recording.Timestamps: {Value: "1"},
			}},
			"gateway": {Kernel: "6.18.1", Addresses: []netip.Addr{public.Addr()}},
			"server": {Kernel: "6.18.1", Addresses: []netip.Addr{vip.Addr()}, Settings: map[string]recording.Setting{
				recording.MostWaiting: {Value: "4096"}, recording.SYNCookies: {Value: "1", Said: true}, recording.Timestamps: {Value: "0"},
			}},
		},
		Steps: []recording.Step{
			{Number: 1, Verb: "listen", What: "listen server:80", Node: "server", LeftOut: []string{"backlog"}, Result: recording.Result{Outcome: "Listening"}},
			{
				Number: 2, Verb: "connect", What: "connect client:50000 > server:80", Ended: 3 * time.Second,
				Result: recording.Result{Attempts: []recording.Attempt{{
					Node: "client", Outcome: "TimedOut", Errno: "ETIMEDOUT", Took: 3 * time.Second, Local: client, Remote: vip, SYNs: 2,
				}}, Errno: "ETIMEDOUT"},
				Findings: []recording.Finding{{What: "outcome", Wanted: "Connected", Seen: "TimedOut"}, {What: "syns", Wanted: "2", Seen: "2", Met: true}},
			},
		},
		Packets: packets(),
	}
}

// packets are a SYN that the server answers with a SYN-ACK, which ends at the gateway; and the
// SYN again, which is lost on the way to the server.
func packets() (all []recording.Packet) {
	at := func(ms int, point, eth string, out bool, src, dst netip.AddrPort, seq uint32, flags string) {
		all = append(all, recording.Packet{
			Point: point, Interface: eth, Time: began.Add(time.Duration(ms) * time.Millisecond), Out: out, Src: src, Dst: dst, Seq: seq, Flags: flags,
		})
	}
	at(0, "client", "eth0", true, client, vip, 1, "S")
	at(1, "gateway", "client", false, client, vip, 1, "S")
	at(2, "gateway", "eth0", true, public, vip, 1, "S")
	at(3, "server", "gateway", false, public, vip, 1, "S")
	at(4, "server", "gateway", true, vip, public, 7, "S.")
	at(5, "gateway", "eth0", false, vip, public, 7, "S.")
	all[4].Ack, all[5].Ack = 2, 2
	at(6, "client", "eth0", true, netip.MustParseAddrPort("10.0.0.2:50001"), vip, 9, "S") // somebody else's
	at(1000, "client", "eth0", true, client, vip, 1, "S")
	at(1001, "gateway", "client", false, client, vip, 1, "S")
	at(1002, "gateway", "eth0", true, public, vip, 1, "S")
	return all
}

func textOf(t *testing.T, r recording.Recording) string {
	t.Helper()
	var b strings.Builder
	if err := Text(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	want := `no answer
  0.00   1 listen server:80: Listening
  0.00   2 connect client:50000 > server:80: TimedOut after 3s, 2 SYNs, ETIMEDOUT
              NOT EXPECTED  outcome: wanted Connected, seen TimedOut
              as expected   syns: 2
              why: unexplained
                   what was recorded does not say why; possible: lost-on-link, conntrack-full, nat-entry-older-than-rule
                   1 of 1 SYN without a SYN-ACK: left gateway, and came into no other node
NOT as expected
left out: net.ipv4.tcp_syn_retries=6 (client); the default had a part in it
step 2, client:50000 > server:80: TimedOut after 3s, 2 SYNs; unexplained
  time       client         gateway         server
  0.000 1      │─ SYN ────────>~──────────────>│
               │               │               │  now gateway:50000 > server:80, by gateway
  0.004 2      │               x< SYN-ACK ─────│  came in, and did not leave
               · · · · · · · · · · · · · · · · ·  996 ms: no answer, so it is sent again
  1.000 3      │─ SYN ────────>~───────x       │  lost on the link
               · · · · · · · · · · · · · · · · ·  2.00 s: no answer
  3.000        *               │               │  connect: ETIMEDOUT
  numbers are relative to the initial one: client's is 1, its peer's is 7
next: run it with --keep, and look around in the network; with --output-dir, run.json and packets.pcapng have all packets
`
	if got := textOf(t, run()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNothingFromAFileReachesTheTerminal(t *testing.T) {
	r := run()
	r.Scenario, r.File.Name, r.By, r.Interrupted = hostile, hostile, hostile, hostile
	for i := range r.Steps {
		s := &r.Steps[i]
		s.ID, s.What, s.Problem, s.Skipped = hostile, hostile, hostile, ""
		for k := range s.Findings {
			s.Findings[k] = recording.Finding{What: hostile, Wanted: hostile, Seen: hostile}
		}
	}
	skipped := r
	skipped.Steps, skipped.Interrupted, skipped.Unbuilt = []recording.Step{{Number: 1, What: hostile, Skipped: hostile}}, "", hostile
	runs := []Run{{Kernel: hostile, Recordings: []recording.Recording{r, skipped}, Problem: hostile}, {Kernel: "other", Recordings: []recording.Recording{run()}}}
	var summary, kernels, table, junit strings.Builder
	if err := errors.Join(Summary(&summary, runs), Kernels(&kernels, runs), Table(&table, runs[0].Recordings), JUnit(&junit, runs)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"text": textOf(t, r), "text of what was skipped": textOf(t, skipped), "summary": summary.String(), "kernels": kernels.String(), "table": table.String(), "JUnit": junit.String(),
	} {
		if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && unsafe(c) }); i >= 0 {
			t.Errorf("%s has %q", name, text[max(0, i-20):i+3])
		}
	}
	outside := strings.Split(summary.String(), "```")
	for i := 0; i < len(outside); i += 2 {
		if strings.Contains(outside[i], "<script>") || strings.Contains(outside[i], " |`") {
			t.Errorf("the summary has a text that Markdown obeys:\n%s", outside[i])
		}
	}
}

func TestLeftOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*recording.Recording)
		want   string
	}{
		{"it timed out", func(*recording.Recording) {}, "net.ipv4.tcp_syn_retries=6 (client)"},
		{"it connected", func(r *recording.Recording) { r.Steps[1].Result.Attempts[0].Outcome = "Connected" }, ""},
		{"the file says it", func(r *recording.Recording) {
			r.Nodes["client"].Settings[recording.SYNRetries] = recording.Setting{Value: "6", Said: true}
		}, ""},
		{"answered by an ACK", func(r *recording.Recording) {
			r.Steps[1].Result.Attempts[0] = recording.Attempt{Node: "client", Outcome: "Connected", Answers: []string{"ACK", "SYN-ACK"}}
			r.After = map[string]recording.State{"server": {Counters: map[string]uint64{"TcpExt.TCPSYNChallenge": 1}}}
		}, "net.ipv4.tcp_timestamps=1 (client); net.ipv4.tcp_timestamps=0 (server)"},
		{"a queue was full", func(r *recording.Recording) {
			r.Steps[1].Result.Attempts[0].Outcome = "Connected"
			r.Before = map[string]recording.State{"server": {Counters: map[string]uint64{"TcpExt.ListenOverflows": 1}}}
			r.After = map[string]recording.State{"server": {Counters: map[string]uint64{"TcpExt.ListenOverflows": 2}}}
		}, "backlog of step 1, which is as large as somaxconn (server); net.core.somaxconn=4096 (server)"},
		{"it was full before", func(r *recording.Recording) {
			r.Steps[1].Result.Attempts[0].Outcome = "Connected"
			r.Before = map[string]recording.State{"server": {Counters: map[string]uint64{"TcpExt.ListenOverflows": 2}}}
			r.After = r.Before
		}, ""},
	} {
		r := run()
		c.change(&r)
		if got := LeftOut(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestKernels(t *testing.T) {
	good, other := run(), run()
	good.Steps = append([]recording.Step(nil), good.Steps...)
	good.Steps[1].Findings = []recording.Finding{{What: "outcome", Wanted: "Connected", Seen: "Connected", Met: true}}
	other.Scenario = "the same everywhere"
	second := other
	var b strings.Builder
	if err := Kernels(&b, []Run{
		{Kernel: "running", Recordings: []recording.Recording{good, other}},
		{Kernel: "debian-5.10", Recordings: []recording.Recording{run(), second}},
		{Kernel: "debian-6.1", Problem: "2 scenarios were not run"},
	}); err != nil {
		t.Fatal(err)
	}
	want := `scenario             running             debian-5.10         debian-6.1
no answer            as expected         NOT as expected     -
the same everywhere  NOT as expected     NOT as expected     -
debian-6.1: 2 scenarios were not run

The first difference of each (one run on each kernel: it may be chance):
  no answer: step 2, connect client:50000 > server:80: as expected on running; outcome TimedOut instead of Connected on debian-5.10
  the same everywhere: none, on all of them step 2, connect client:50000 > server:80: outcome: wanted Connected, seen TimedOut
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if Worst([]Run{{Recordings: []recording.Recording{good}}, {Problem: "x"}}) != recording.CannotHere {
		t.Error("a kernel without recordings is not as expected")
	}
}

func TestJUnit(t *testing.T) {
	good, broken, unbuilt := run(), run(), run()
	good.Steps = good.Steps[:1]
	good.Planned = 1
	broken.Steps[0].Problem = "x ]]> y"
	unbuilt.Unbuilt, unbuilt.File.Name = "no iptables", "other.yaml"
	var b strings.Builder
	if err := JUnit(&b, []Run{{Recordings: []recording.Recording{good, run(), broken, unbuilt}}}); err != nil {
		t.Fatal(err)
	}
	var read suites
	if err := xml.Unmarshal([]byte(b.String()), &read); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if read.Tests != 4 || read.Failures != 1 || read.Errors != 1 || read.Skipped != 1 || len(read.Suites) != 2 || len(read.Suites[0].Cases) != 3 {
		t.Errorf("%+v", read)
	}
	if m := read.Suites[0].Cases[1].Failure; m == nil || m.Message != "step 2, connect client:50000 > server:80: outcome: wanted Connected, seen TimedOut" {
		t.Errorf("the failure is %+v", m)
	}
	if m := read.Suites[0].Cases[2].Error; m == nil || m.Type != "did not come about" {
		t.Errorf("the error is %+v", m)
	}
	if c := read.Suites[1].Cases[0]; c.Error != nil || c.Skipped == nil || c.Skipped.Message != "could not be built: no iptables" || read.Suites[1].Skipped != 1 {
		t.Errorf("skipped is %+v, the error %+v", c.Skipped, c.Error)
	}
}

func TestSummary(t *testing.T) {
	r := run()
	r.File.Text = "twlab: 1\nname: \"```\"\n"
	guest := r.Nodes["server"]
	guest.Kernel, guest.Guest = "5.10.0", true
	r.Nodes["server"] = guest
	var b strings.Builder
	if err := Summary(&b, []Run{{Recordings: []recording.Recording{r}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# twlab: 0 of 1 as expected\n",
		"| no answer | NOT as expected | server: 5.10.0 (guest); client, gateway: 6.18.1 |\n",
		"| 2 connect client:50000 &gt; server:80 | outcome | Connected | TimedOut | **no** |\n",
		"````yaml\ntwlab: 1\nname: \"```\"\n````\n",
		"Run by twlab x.\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
