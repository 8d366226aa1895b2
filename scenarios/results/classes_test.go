package results

import (
	"slices"
	"strings"
	"testing"

	"twlab/scenarios"
	"twlab/scenarios/claim"
)

func TestClasses(t *testing.T) {
	seen := func(pairs ...string) (s claim.Seen) {
		for i := 0; i < len(pairs); i += 2 {
			s.Note(pairs[i], pairs[i+1])
		}
		return s
	}
	for _, c := range []struct {
		seen claim.Seen
		want Class
	}{
		{seen("outcome", "Connected", "syns", "1"), AtOnce},
		{seen("outcome", "Connected", "syns", "2"), Late},
		{seen("outcome", "TimedOut", "syns", "1"), NotIn},
		{seen("outcome", "NoPort"), NotIn},
		{seen("connected", "60", "failed", "0", "late", "0"), AtOnce},
		{seen("connected", "60", "failed", "0", "late", "3"), Late},
		{seen("connected", "60", "failed", "3", "late", "3"), NotIn},
		{seen("whole", "8", "no port", "1"), NotIn},
		{seen("time-wait", "60 s"), Measured},
	} {
		if got := ClassOf(c.seen); got != c.want {
			t.Errorf("%v: %v, want %v", c.seen.Observations, got, c.want)
		}
	}
}

// effectOf is what a value of a sysctl does.
func effectOf(t *testing.T, all []effect, role, sysctl, value, way string) effect {
	t.Helper()
	i := slices.IndexFunc(all, func(e effect) bool {
		return e.Knob.Role == role && e.Knob.Sysctl == sysctl && e.Value == value && e.Way == way
	})
	if i < 0 {
		t.Fatalf("nothing about %s %s=%s %s", role, sysctl, value, way)
	}
	return all[i]
}

func TestEffectsOfSettings(t *testing.T) {
	runs := predictedOn(t, releases[0])
	about := aboutUsers(families(runs))
	all := effects(about, knobs(about, runs[0].Releases), 0)
	for _, c := range []struct {
		role, sysctl, value, way string
		better, worse            bool
	}{
		{"client", "net.ipv4.tcp_tw_reuse", "1", "without NAT", true, false},
		{"client", "net.ipv4.tcp_tw_reuse", "0", "without NAT", false, true},
		{"balancer", "net.ipv4.tcp_rfc1337", "1", "behind NAT", false, true},
		{"client", "net.ipv4.tcp_timestamps", "0", "behind NAT", false, true},
	} {
		e := effectOf(t, all, c.role, c.sysctl, c.value, c.way)
		if (e.Better > 0) != c.better || (e.Worse > 0) != c.worse || e.Same == 0 {
			t.Errorf("%s=%s %s: better in %d, the same in %d, worse in %d; want better %t, worse %t", c.sysctl, c.value, c.way, e.Better, e.Same, e.Worse, c.better, c.worse)
		}
	}
}

func TestStepsBetweenKernels(t *testing.T) {
	runs := predictedOn(t, releases[2], releases[0])
	if runs[0].Heading != "6.18" {
		t.Fatalf("the newest is not first: %s", runs[0].Heading)
	}
	list := steps(runs, families(runs))
	i := slices.IndexFunc(list, func(s kernelStep) bool {
		return s.Before == "ceiling-ended" && s.Since == "ceiling-evicted"
	})
	if i < 0 || list[i].From != "5.10" || list[i].To != "6.18" || len(list[i].Cells) == 0 {
		t.Errorf("Linux 6.5 evicts closing entries, which is not among %d steps: %+v", len(list), list)
	}
	for k, s := range list[1:] {
		if s.BeforeClass != s.NowClass && list[k].BeforeClass == list[k].NowClass {
			t.Errorf("%s to %s goes another way for a user, and comes after %s to %s, which does not", s.Before, s.Since, list[k].Before, list[k].Since)
		}
	}
	if list[i].Because == "" {
		t.Errorf("no reason: %+v", list[i])
	}
	if alike := steps(runs[:1], families(runs[:1])); len(alike) > 0 {
		t.Errorf("one kernel has steps: %v", alike)
	}
}

// Where both kernels are the same, rules must predict what a run shows in which all is as they say.
func TestRulesPredictClasses(t *testing.T) {
	runs := predictedOn(t, releases[0], releases[4])
	all := aboutUsers(families(runs))
	pairs := predicted(runs, all)
	if len(pairs) != 2 || strings.Trim(pairs["0,1"], "-") == "" || pairs["0,1"] == pairs["1,0"] {
		t.Errorf("%d pairs: %v", len(pairs), pairs)
	}
	for _, f := range scenarios.Families() {
		for i := range f.Rules {
			class, known := ClassWanted(f.Rules[i])
			seen := wanted(f.Rules[i])
			if _, has := seen.Get("outcome"); !has || !known || f.Rules[i].OutOfReach {
				continue
			}
			if got := ClassOf(seen); got != class {
				t.Errorf("%s: predicted %v, seen %v", f.Rules[i].Name, class, got)
			}
		}
	}
}
