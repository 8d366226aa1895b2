package recording

import (
	"reflect"
	"testing"
)

func TestLean(t *testing.T) {
	state := func(values ...uint64) map[string]State {
		counters := map[string]uint64{}
		for i, name := range []string{"still", "moved", "moved and back", "came later"} {
			if i < len(values) {
				counters[name] = values[i]
			}
		}
		return map[string]State{"web": {Counters: counters, Rules: []Rule{{Rule: "r"}}}}
	}
	r := least()
	r.Before, r.After = state(7, 1, 5), state(7, 3, 5, 2)
	r.Steps[0].After = state(7, 1, 6, 0)
	r.Packets = []Packet{{Flags: "S", Raw: []byte{1}}}
	lean := r.Lean()
	for name, c := range map[string]struct {
		got  map[string]State
		want map[string]uint64
	}{
		"before": {lean.Before, map[string]uint64{"moved": 1, "moved and back": 5}},
		"during": {lean.Steps[0].After, map[string]uint64{"moved": 1, "moved and back": 6, "came later": 0}},
		"after":  {lean.After, map[string]uint64{"moved": 3, "moved and back": 5, "came later": 2}},
	} {
		if !reflect.DeepEqual(c.got["web"].Counters, c.want) || len(c.got["web"].Rules) != 1 {
			t.Errorf("%s: %v, want the counters %v and the rule", name, c.got, c.want)
		}
	}
	if lean.Packets[0].Raw != nil || lean.Packets[0].Flags != "S" {
		t.Errorf("packets %v, want them without frames", lean.Packets)
	}
	if r.Before["web"].Counters["still"] != 7 || r.Packets[0].Raw == nil {
		t.Error("the recording itself has changed")
	}
}
