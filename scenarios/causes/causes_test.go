package causes_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"twlab/harness/diagnose"
	"twlab/harness/scriptfile"
	"twlab/scenarios/causes"
	"twlab/scenarios/incidents"
)

var update = flag.Bool("update", false, "write CAUSES.md anew")

const (
	page    = "../CAUSES.md"
	preface = `# Why connections die

<!-- Written by go test ./scenarios/causes -update. -->

The causes that twlab tells apart. Each is brought about by a scenario file (scenarios/causes, or an incident),
which the suite runs, and proved by evidence of two kinds at least; without root some of it is unknown, and a
cause is then called consistent instead of proved. ` + "`twlab explain CAUSE`" + ` prints one of them, and
` + "`twlab explain run.json`" + ` what became of the connections of a recording.

`

	leftOut = `
## What is left out

These are known to end connections, and are not told apart, because no scenario file has brought them about yet. What is
not brought about is not tried against the other causes, so it would be a guess.

- **A next hop that does not answer** (ARP, neighbour discovery): the kernel gives up the SYNs after some seconds
  (EHOSTUNREACH). Both ends of a link always answer here, and rules of iptables do not see ARP. ` + "`ip neigh`" + ` shows FAILED.
- **tcp_tw_recycle**: up to Linux 4.11 a server with it drops SYNs of clients behind a NAT whose timestamps are older.
  It needs such a kernel at the server; there the kernel tells no reasons, and the suite runs on none of these releases each time.
  ` + "`nstat TcpExtPAWSPassive`" + ` rises there by the SYNs.
`
)

func TestThePageIsWhatTheCatalogueSays(t *testing.T) {
	var b strings.Builder
	b.WriteString(preface)
	if err := diagnose.WriteCauses(&b, diagnose.Catalogue()...); err != nil {
		t.Fatal(err)
	}
	b.WriteString(leftOut)
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != b.String() {
		t.Error("CAUSES.md is stale: run go test ./scenarios/causes -update and read the difference")
	}
}

// Each cause of the catalogue is expected by a scenario that runs: of this directory, or an
// incident.
func TestEachCauseIsBroughtAbout(t *testing.T) {
	expected := map[string]bool{}
	for _, all := range []func() ([]scriptfile.File, error){causes.All, incidents.All} {
		files, err := all()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			for _, s := range f.Scenarios {
				for _, step := range s.Steps {
					for _, e := range step.Expect {
						expected[e.Cause] = true
					}
				}
			}
		}
	}
	for _, id := range diagnose.IDs() {
		if !expected[id] {
			t.Errorf("no scenario expects the cause %s: a file in scenarios/causes is missing", id)
		}
	}
	ids := diagnose.IDs()
	if unique := len(slices.Compact(slices.Sorted(slices.Values(ids)))); unique != len(ids) {
		t.Errorf("%d causes have %d names", len(ids), unique)
	}
}
