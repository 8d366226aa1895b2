package diagnose

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twlab/harness/internal/kepttest"
	"twlab/harness/recording"
)

// With -recordings DIR,DIR the recordings of runs take the place of those that the tests keep:
//
//	hack/twlab run --output-dir DIR scenarios/causes
var from = flag.String("recordings", "", "directories of `hack/twlab run --output-dir`, whose recordings over IPv4 are kept from now on")

var shared = kepttest.Shared("testdata")

// kept are the recordings that the tests keep, by name. Tests share what these refer to.
func kept(t *testing.T) map[string]recording.Recording {
	t.Helper()
	keep(t)
	return shared(t)
}

// An attempt whose SYNs ended at two places, for two reasons, has both causes in their order.
func TestTwoCausesAfterEachOther(t *testing.T) {
	r := kepttest.Recording(t, "testdata/parts", "no-port-at-the-gateway-and-then-a-TIME-WAIT")
	last := Of(&r, len(r.Steps)-1)[0]
	if want := "snat-exhausted, then time-wait-older-number (proved)"; last.Short() != want || last.Cause() != "snat-exhausted" {
		t.Errorf("it is %s, of the cause %s; want %s", last.Short(), last.Cause(), want)
	}
	if text := strings.Join(last.Lines(), "\n"); !strings.Contains(text, "then: The server has a TIME_WAIT") || len(last.Lines()) > 12 {
		t.Errorf("it is explained by\n%s", text)
	}
	r.Missing = map[recording.Evidence]string{recording.OfCounters: "taken away"}
	if blind := Of(&r, len(r.Steps)-1)[0]; blind.Status != Unexplained || len(blind.Then) > 0 {
		t.Errorf("without counters nothing proves either of them, and it is %s", blind.Short())
	}
}

// keep writes the recordings of runs, without what diagnoses do not read.
func keep(t *testing.T) {
	if *from == "" {
		return
	}
	for _, dir := range strings.Split(*from, ",") {
		names, err := filepath.Glob(filepath.Join(dir, "*", "run.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.Contains(name, "ip=6") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			r, err := recording.Read(bytes.NewReader(text))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.Twin || len(wanted(r)) == 0 {
				continue
			}
			write(t, filepath.Join("testdata", filepath.Base(filepath.Dir(name))+".json.gz"), lean(r))
		}
	}
	*from = ""
}

func lean(r recording.Recording) recording.Recording {
	for i := range r.Packets {
		r.Packets[i].Raw = nil
	}
	slim := func(states map[string]recording.State) {
		for _, s := range states {
			maps.DeleteFunc(s.Counters, func(_ string, n uint64) bool { return n == 0 })
		}
	}
	slim(r.Before)
	slim(r.After)
	for _, s := range r.Steps {
		slim(s.After)
	}
	return r
}

func write(t *testing.T, name string, r recording.Recording) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wanted are the causes that the scenario of a recording expects.
func wanted(r recording.Recording) map[string]bool {
	all := map[string]bool{}
	for _, s := range r.Steps {
		maps.Copy(all, wantedOf(s))
	}
	return all
}

func wantedOf(s recording.Step) map[string]bool {
	all := map[string]bool{}
	for _, f := range s.Findings {
		if id, _, _ := strings.Cut(f.Wanted, " "); f.What == "cause" && id != "none" {
			all[id] = true
		}
	}
	return all
}

// Each attempt that died has the cause that its step expects, and no other; where the step
// expects none, one that the scenario expects elsewhere.
func TestDiagonal(t *testing.T) {
	missing := map[string]bool{}
	for _, id := range IDs() {
		missing[id] = true
	}
	for name, r := range kept(t) {
		for i := range r.Steps {
			want := wantedOf(r.Steps[i])
			if len(want) == 0 {
				want = wanted(r)
			}
			for _, d := range Of(&r, i) {
				if d.Symptom == Fine {
					continue
				}
				if !want[d.Cause()] {
					t.Errorf("%s: step %d: %s, want %v\n%s", name, d.Step, d.Short(), slices.Collect(maps.Keys(want)), strings.Join(d.Lines(), "\n"))
				}
				delete(missing, d.Cause())
			}
		}
	}
	for id := range missing {
		t.Errorf("no recording has the cause %s", id)
	}
}

// A server that sent a FIN before its RST has known the connection: it is no ghost of the accept
// queue, though the kernel took a late ACK for one of a handshake by cookie.
func TestAGhostSendsNoFIN(t *testing.T) {
	ghosts := func(r recording.Recording) (n int) {
		for _, d := range Recording(&r) {
			if d.Cause() == "accept-queue-ghost" {
				n++
			}
		}
		return n
	}
	r := kept(t)["requests-of-clients-that-are-Connected-to-nothing--ip=4--body=5000-"]
	before := ghosts(r)
	r.Packets = afterFINs(r.Packets)
	if after := ghosts(r); before == 0 || after != 0 {
		t.Errorf("%d connections are ghosts, and %d when the server has sent FINs", before, after)
	}
}

// afterFINs are the packets in which each RST comes after a FIN.
func afterFINs(packets []recording.Packet) (all []recording.Packet) {
	for _, p := range packets {
		if p.Is('R') {
			fin := p
			fin.Flags, fin.Time = "F.", p.Time.Add(-1)
			all = append(all, fin)
		}
		all = append(all, p)
	}
	return all
}

// In the sixth and seventh minute of a machine the kernel takes every stray ACK for one of a
// handshake by cookie, and counts it: it compares its clock, which is 0 when five minutes are over,
// with a time of no overflow, which is 0, too (tcp_synq_no_recent_overflow). Linux 6.1 was asked then.
func TestAStrayACKIsNoGhost(t *testing.T) {
	r := kept(t)["the-server-does-not-know-the-connection-in-the-sixth-minute-of-its-machine"]
	const counter = "TcpExt.SyncookiesFailed"
	if step := r.Steps[len(r.Steps)-1]; step.After["server"].Counters[counter] == 0 {
		t.Errorf("%s is 0, want the recording of a machine that has counted", counter)
	}
	for _, d := range Recording(&r) {
		if d.Symptom != Fine && (d.Cause() != "server-restarted" || d.Status != Proved) {
			t.Errorf("step %d: %s, want server-restarted, proved", d.Step, d.Short())
		}
	}
}

// Without evidence of one kind an answer may become weaker, and never another one.
func TestBlinding(t *testing.T) {
	for name, r := range kept(t) {
		for _, kind := range []recording.Evidence{
			recording.OfPackets, recording.OfCounters, recording.OfSockets, recording.OfFlows, recording.OfRules, recording.OfEvents, recording.OfLogs,
		} {
			blind := r
			blind.Missing = map[recording.Evidence]string{kind: "taken away"}
			for _, d := range Recording(&blind) {
				if d.Symptom != Fine && d.Cause() != "" && !wanted(r)[d.Cause()] {
					t.Errorf("%s, without %s: step %d: %s, want %v\n%s", name, kind, d.Step, d.Short(), slices.Collect(maps.Keys(wanted(r))), strings.Join(d.Lines(), "\n"))
				}
			}
		}
	}
}

// Taps that have lost packets without noticing never make another cause proved.
func TestLostPacketsProveNothing(t *testing.T) {
	for name, r := range kept(t) {
		for seed := range uint64(30) {
			chance := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not for secrets
			lossy := r
			lossy.Packets = slices.DeleteFunc(slices.Clone(r.Packets), func(recording.Packet) bool { return chance.IntN(100) < 10+int(seed) })
			for _, d := range Recording(&lossy) {
				if d.Status == Proved && !wanted(r)[d.Cause()] {
					t.Errorf("%s, seed %d: step %d: %s, want %v\n%s", name, seed, d.Step, d.Short(), slices.Collect(maps.Keys(wanted(r))), strings.Join(d.Lines(), "\n"))
				}
			}
		}
	}
}

// An explanation is short enough to be read, and says what to do.
func TestLinesAreFew(t *testing.T) {
	for name, r := range kept(t) {
		for _, d := range Recording(&r) {
			lines := d.Lines()
			if len(lines) > 12 || d.Status == Proved && !strings.Contains(strings.Join(lines, "\n"), "do: ") {
				t.Errorf("%s: step %d: %d lines\n%s", name, d.Step, len(lines), strings.Join(lines, "\n"))
			}
		}
	}
}
