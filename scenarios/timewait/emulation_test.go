package timewait

import (
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

func TestWhatAnEmulationStandsInFor(t *testing.T) {
	for _, e := range Emulations() {
		if !e.Needed(claim.Newest()) {
			t.Errorf("%s: nothing is missing on the newest kernel", e.Of)
		}
		old := claim.Alike(kernel.FactsOf(kernel.Mainline(4, 11)))
		if e.Needed(old) {
			t.Errorf("%s: Linux 4.11 has the feature itself", e.Of)
		}
		if as := e.Kernels(claim.Newest()); !claim.Has(lab.Balancer, kernel.TwRecycle).Holds(as) || claim.Has(lab.Balancer, kernel.TwRecycle).Holds(claim.Newest()) {
			t.Errorf("%s: want the feature as if, and the kernel's own facts left as they are", e.Of)
		}
	}
}

// The second emulation is tried where it differs, which is what a SYN without
// timestamps meets.
func TestEmulationsDiffer(t *testing.T) {
	e := Emulations()[1]
	cells := e.Chosen(claim.Newest(), true)
	if len(cells) == 0 {
		t.Fatal("the emulations are alike")
	}
	for _, c := range cells {
		if !c.Is("client-ts", "first-only") {
			t.Errorf("%s: %s", e.Of, e.Family().Describe(c))
		}
	}
}

// Nobody may take an emulated result for a kernel's.
func TestAnEmulatedResultSaysSo(t *testing.T) {
	for _, f := range []situation.Family{Recycle(), Emulations()[0].Family()} {
		r := claim.Judge(f.Family, f.Usual(), f.Rules[0], claim.Seen{})
		if want := f.Emulated != ""; r.Emulated != want || strings.Contains(r.String(), "EMULATED") != want {
			t.Errorf("emulated %q: %v in\n%v", f.Emulated, r.Emulated, r)
		}
	}
}
