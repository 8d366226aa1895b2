package diagnose

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"twlab/harness/recording"
)

var update = flag.Bool("update", false, "write the conditions that no recording needs anew")

// unproved are the conditions without which each kept recording still has its cause.
const unproved = "testdata/unproved.txt"

// removal is a catalogue without one condition of one cause.
type removal struct {
	name  string // "snat-exhausted requires 1"
	cause int
	less  Cause
}

// removals are all of them.
func removals(catalogue []Cause) (all []removal) {
	for i, c := range catalogue {
		less := func(what string, n int, change func(c *Cause, k int)) {
			for k := range n {
				fewer := c
				change(&fewer, k)
				all = append(all, removal{fmt.Sprintf("%s %s %d", c.ID, what, k+1), i, fewer})
			}
		}
		without := func(of []Condition, k int) []Condition { return slices.Delete(slices.Clone(of), k, k+1) }
		less("where", len(c.Where), func(c *Cause, k int) { c.Where = without(c.Where, k) })
		less("requires", len(c.Requires), func(c *Cause, k int) { c.Requires = without(c.Requires, k) })
		less("contradicts", len(c.Contradicts), func(c *Cause, k int) { c.Contradicts = without(c.Contradicts, k) })
		less("look-alike", len(c.LookAlikes), func(c *Cause, k int) {
			c.LookAlikes = slices.Delete(slices.Clone(c.LookAlikes), k, k+1)
		})
	}
	return all
}

// remembering is a catalogue whose conditions look at each case once.
func remembering(catalogue []Cause) []Cause {
	once := func(of Condition) Condition {
		known := map[*Case]Fact{}
		return func(c *Case) Fact {
			f, seen := known[c]
			if !seen {
				f = of(c)
				known[c] = f
			}
			return f
		}
	}
	all := slices.Clone(catalogue)
	for i := range all {
		c := &all[i]
		for _, list := range []*[]Condition{&c.Where, &c.Requires, &c.Contradicts, &c.Also} {
			*list = slices.Clone(*list)
			for k := range *list {
				(*list)[k] = once((*list)[k])
			}
		}
		c.LookAlikes = slices.Clone(c.LookAlikes)
		for k := range c.LookAlikes {
			c.LookAlikes[k].By = once(c.LookAlikes[k].By)
		}
	}
	return all
}

// judged is an attempt, and what the whole catalogue says of it.
type judged struct {
	c    *Case
	says string
}

// judgedAttempts are the attempts of all kept recordings that died: as they were, and as they would
// be with other evidence.
func judgedAttempts(t *testing.T, catalogue []Cause) (all []judged) {
	t.Helper()
	recordings := kept(t)
	add := func(r recording.Recording) {
		lives := Lives(&r)
		for i := range r.Steps {
			for _, c := range casesOf(&r, i, lives) {
				d := Diagnosis{Symptom: c.symptom}
				d.judgeBy(catalogue, c)
				all = append(all, judged{c, d.Short()})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(recordings)) {
		r := recordings[name]
		add(r)
		for _, changed := range otherwise(r) {
			add(changed)
		}
	}
	return all
}

// otherwise are recordings that differ from one in a single respect: evidence of a kind is missing,
// or shows nothing; packets of a kind were not seen, or FINs before RSTs were; a counter, or the
// rules that drop or reject, have counted more; it begins with its last step.
func otherwise(r recording.Recording) (all []recording.Recording) {
	for _, kind := range []recording.Evidence{
		recording.OfPackets, recording.OfCounters, recording.OfSockets, recording.OfFlows, recording.OfRules, recording.OfEvents, recording.OfLogs,
	} {
		blind := r
		blind.Missing = map[recording.Evidence]string{kind: "taken away"}
		all = append(all, blind)
	}
	for _, gone := range []func(p recording.Packet) bool{
		func(p recording.Packet) bool { return p.Is('R') },
		func(p recording.Packet) bool { return p.Is('F') },
		func(p recording.Packet) bool { return p.Flags == "S." },
		func(p recording.Packet) bool { return p.Flags == "." && p.Payload == 0 },
		func(p recording.Packet) bool { return p.Payload > 0 },
		func(p recording.Packet) bool { return p.Flags == "S" && !p.Out }, // it came into no other node
		func(p recording.Packet) bool { return p.Flags == "S" && !p.Out && owns(&r, p.Point, p.Dst.Addr()) },
	} {
		fewer := r
		fewer.Packets = slices.DeleteFunc(slices.Clone(r.Packets), gone)
		all = append(all, fewer)
	}
	fins := r
	fins.Packets = afterFINs(r.Packets)
	all = append(all, fins)
	states := func(change func(node string, s recording.State) recording.State) {
		other := r
		each := func(of map[string]recording.State) map[string]recording.State {
			if of == nil {
				return nil
			}
			changed := map[string]recording.State{}
			for node, s := range of {
				changed[node] = change(node, s)
			}
			return changed
		}
		other.After, other.Steps = each(r.After), slices.Clone(r.Steps)
		for i := range other.Steps {
			other.Steps[i].After = each(r.Steps[i].After)
		}
		all = append(all, other)
	}
	states(func(node string, s recording.State) recording.State { s.Counters = r.Before[node].Counters; return s })
	states(func(node string, s recording.State) recording.State { s.Rules = r.Before[node].Rules; return s })
	states(func(_ string, s recording.State) recording.State { s.Sockets = nil; return s })
	states(func(_ string, s recording.State) recording.State { s.Flows = nil; return s })
	for _, target := range []string{"-j DROP", "-j REJECT"} {
		states(func(_ string, s recording.State) recording.State {
			s.Rules = append(slices.Clone(s.Rules), recording.Rule{Rule: target, Packets: many})
			return s
		})
	}
	for _, name := range counters {
		states(raised(name))
	}
	// Nobody has looked when the connection was made.
	if first := len(r.Steps) - 1; first > 0 {
		r.Steps = r.Steps[first:]
		all = append(all, r)
		states(raised("TcpExt.SyncookiesFailed"))
	}
	return all
}

// raised changes a state, whose counter is higher then.
func raised(counter string) func(node string, s recording.State) recording.State {
	return func(_ string, s recording.State) recording.State {
		s.Counters = maps.Clone(s.Counters)
		if s.Counters == nil {
			s.Counters = map[string]uint64{}
		}
		s.Counters[counter] += many
		return s
	}
}

// many is more than any recording has packets.
const many = 1_000_000

// counters are those of which causes say that they rose or stood still.
var counters = []string{
	"Conntrack.insert_failed", "Conntrack.drop", "Conntrack.invalid", "Icmp.InDestUnreachs", "Ip.FragFails", "Ip.InAddrErrors", "Ip.OutNoRoutes", "IpExt.InNoRoutes",
	"MPTcpExt.MPCapableSYNTXDrop", "Tcp.AttemptFails", "Tcp.EstabResets", "Tcp.OutRsts", "TcpExt.IPReversePathFilter", "TcpExt.ListenOverflows",
	"TcpExt.PAWSEstab", "TcpExt.TCPAbortOnClose", "TcpExt.TCPAbortOnData", "TcpExt.TCPSYNChallenge",
}

// casesOf are the attempts of a step that died.
func casesOf(r *recording.Recording, step int, lives []Life) (all []*Case) {
	s := r.Steps[step]
	if s.Verb == "await" {
		return nil
	}
	for _, a := range s.Result.Attempts {
		if symptomOf(a, s.Result, nil) != Fine {
			all = append(all, newCase(r, step, a, nil, lives))
		}
	}
	if on := s.Result.On; on != nil {
		if a := (recording.Attempt{Node: on.Node, Local: on.Local, Remote: on.Remote}); symptomOf(a, s.Result, on) != Fine {
			all = append(all, newCase(r, step, a, on, lives))
		}
	}
	return all
}

// told reports whether a removal takes away a look-alike that is ruled out by what the cause requires
// anyway: it is told, and decides nothing.
func (r removal) told(whole Cause, attempts []judged) bool {
	i := slices.IndexFunc(whole.LookAlikes, func(l LookAlike) bool {
		return len(r.less.LookAlikes) < len(whole.LookAlikes) && !slices.ContainsFunc(r.less.LookAlikes, func(o LookAlike) bool { return o.ID == l.ID })
	})
	if i < 0 {
		return false
	}
	for _, required := range slices.Concat(whole.Where, whole.Requires) {
		if !slices.ContainsFunc(attempts, func(j judged) bool {
			a, b := required.of([]*Case{j.c}), whole.LookAlikes[i].By.of([]*Case{j.c})
			return a.Is != b.Is || a.Says != b.Says
		}) {
			return true
		}
	}
	return false
}

// Without any one condition some kept recording has another answer, as it is or with one piece of
// evidence changed, but for those conditions that testdata/unproved.txt lists. That list may only
// become shorter: a new condition comes with a recording that needs it.
func TestEveryConditionIsNeeded(t *testing.T) {
	catalogue := remembering(Catalogue())
	attempts := judgedAttempts(t, catalogue)
	var idle []string
	all := slices.DeleteFunc(removals(catalogue), func(r removal) bool { return r.told(catalogue[r.cause], attempts) })
	for _, r := range all {
		fewer := slices.Clone(catalogue)
		fewer[r.cause] = r.less
		if !slices.ContainsFunc(attempts, func(j judged) bool {
			before, _ := catalogue[r.cause].judge(j.c)
			after, _ := r.less.judge(j.c)
			if before.Status == after.Status && before.against.Says == after.against.Says && before.spoken == after.spoken {
				return false // nothing has changed
			}
			d := Diagnosis{Symptom: j.c.symptom}
			d.judgeBy(fewer, j.c)
			return d.Short() != j.says
		}) {
			idle = append(idle, r.name)
		}
	}
	t.Logf("%d of %d conditions are needed by some recording", len(all)-len(idle), len(all))
	before, err := os.ReadFile(unproved)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(before), "\n"); len(idle) > n {
		t.Fatalf("%d conditions are needed by no recording, and may be %d: keep one that needs the new condition. Now they are\n%s", len(idle), n, strings.Join(idle, "\n"))
	}
	text := strings.Join(idle, "\n") + "\n"
	if *update {
		if err := os.WriteFile(unproved, []byte(text), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
		return
	}
	if text != string(before) {
		t.Errorf("no recording needs\n%s\nbut the list is\n%s\n(-update writes it anew)", text, before)
	}
}
