package kernel

import (
	"os"
	"strings"
	"testing"
)

func TestKnownCountersAreTheKernels(t *testing.T) {
	running, err := Running()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, name := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			group, columns, _ := strings.Cut(line, ":")
			for _, column := range strings.Fields(columns) {
				there[group+"."+column] = true
			}
		}
	}
	once := map[string]bool{}
	for _, c := range KnownCounters() {
		if once[c.Name] || c.Means == "" {
			t.Errorf("counter %q in harness/kernel/counters.go: want it once, with a meaning", c.Name)
		}
		once[c.Name] = true
		if strings.HasPrefix(c.Name, "Conntrack.") {
			continue // from ctnetlink, by names of our own (harness/observe)
		}
		if want := c.In.Has(running); there[c.Name] != want {
			t.Errorf("counter %q in harness/kernel/counters.go: there on Linux %v: %v, want %v", c.Name, running, there[c.Name], want)
		}
	}
}
