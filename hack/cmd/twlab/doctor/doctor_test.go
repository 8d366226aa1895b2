package doctor

import (
	"strings"
	"testing"

	"twlab/harness/kernel"
)

func TestWhatIsMissingIsToldWithItsCost(t *testing.T) {
	costs := map[string]string{"a balancer": "3 of 9 cells fail"}
	all := []finding{
		of(kernel.Finding{Requirement: kernel.Requirement{Name: "rules", Hint: "x"}, Fact: kernel.Yes, Detail: "v1"}, costs),
		of(kernel.Finding{Requirement: kernel.Requirement{Name: "a balancer", Hint: "install it", Optional: true}, Fact: kernel.No, Detail: "not found"}, costs),
		of(kernel.Finding{Requirement: kernel.Requirement{Name: "packets", Hint: "load af_packet"}, Fact: kernel.Unknown, Detail: "not permitted"}, costs),
	}
	var out strings.Builder
	show(&out, all)
	const want = `ok       rules: v1
absent   a balancer: not found
           costs: 3 of 9 cells fail
           mend:  install it
MISSING  packets: could not be told: not permitted
           costs: nothing can be run
           mend:  load af_packet
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	if err := complaint(all); err == nil || err.Error() != "missing: packets" {
		t.Error(err)
	}
	if err := complaint(all[:2]); err != nil {
		t.Error(err)
	}
}
