package page

import (
	"fmt"
	"slices"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// answer is what became of attempts that ended alike, and why.
type answer struct {
	Class  string // of its colour: "bad" or "warn"
	Who    string // the sentence that a reader in a hurry reads
	Where  string
	Status diagnose.Status
	Means  string // what the status means
	Of     string // the attempts
	Cause  string // its ID; empty where there is not one
	Do     string
	Cost   string
	Look   string
	Source string
	Proof  []proof
	Open   []proof
	Not    []exclusion
	Rivals []rival
}

// proof is a fact, with a link to its evidence.
type proof struct {
	Says, Kind, Href string
}

// exclusion is what it is not.
type exclusion struct {
	ID string
	By proof
}

// rival is one of several causes that fit.
type rival struct{ ID, Why, Open string }

// answers are those of a recording, alike ones together, each with the number of its attempts.
func (v *view) answers() (all []answer) {
	type key struct{ short, node string }
	index, count := map[key]int{}, map[key]int{}
	var first []diagnose.Diagnosis
	var keys []key
	for _, d := range v.found {
		if d.Symptom == diagnose.Fine {
			continue
		}
		node, _, _ := v.ended(d)
		k := key{d.Short(), node}
		if _, there := index[k]; !there {
			index[k] = len(first)
			first, keys = append(first, d), append(keys, k)
		}
		count[k]++
	}
	for i, d := range first {
		all = append(all, v.answer(d, count[keys[i]]))
	}
	return all
}

// ended is where all SYNs ended that no SYN-ACK answered.
func (v *view) ended(d diagnose.Diagnosis) (node string, end diagnose.End, same bool) {
	if len(d.SYNs) == 0 {
		return "", "", false
	}
	node, end = d.SYNs[0].Node, d.SYNs[0].End
	for _, l := range d.SYNs {
		if l.Node != node || l.End != end {
			return "", "", false
		}
	}
	return node, end, true
}

func (v *view) answer(d diagnose.Diagnosis, times int) answer {
	a := answer{Class: "bad", Status: d.Status, Of: v.attemptOf(d)}
	if d.Symptom == diagnose.Late {
		a.Class = "warn"
	}
	if times > 1 {
		a.Of += fmt.Sprintf("; %d attempts in all", times)
	}
	a.Where = v.where(d)
	switch len(d.Findings) {
	case 0:
		a.Who = v.plainly(d)
		a.Means = d.WhyNone()
		return a
	case 1:
	default:
		a.Who = v.plainly(d)
		a.Means = "several causes fit; the open facts below would decide"
		for _, f := range d.Findings {
			r := rival{ID: f.Cause.ID, Why: f.Cause.Why}
			if len(f.Open) > 0 {
				r.Open = report.Plain(f.Open[0].Says)
			}
			a.Rivals = append(a.Rivals, r)
		}
		return a
	}
	f := d.Findings[0]
	a.Means = "all that this cause requires was seen, by evidence of two kinds, and what looks like it is ruled out"
	if d.Status == diagnose.Consistent {
		a.Means = "nothing speaks against it, but some of the evidence is missing"
	}
	node, _, same := v.ended(d)
	a.Who, a.Cause = f.Cause.Why, f.Cause.ID
	if same {
		a.Who = strings.Replace(a.Who, "the node where they ended", node, 1)
	}
	a.Do, a.Cost, a.Look, a.Source = f.Cause.Do, f.Cause.Cost, f.Cause.Look, f.Cause.Source
	for _, fact := range f.Proof {
		a.Proof = append(a.Proof, v.proof(d, fact))
	}
	for _, fact := range f.Open {
		a.Open = append(a.Open, v.proof(d, fact))
	}
	for _, e := range f.NotThese {
		a.Not = append(a.Not, exclusion{e.ID, v.proof(d, e.By)})
	}
	return a
}

// attemptOf names an attempt: "Step 2: client 10.64.0.2:45106 > 10.64.0.5:80, TimedOut after 3.07 s".
func (v *view) attemptOf(d diagnose.Diagnosis) string {
	text := fmt.Sprintf("Step %d: %s %v > %v", d.Step, d.Attempt.Node, d.Attempt.Local, d.Attempt.Remote)
	if d.Attempt.Outcome != "" {
		text += fmt.Sprintf(", %s after %s", d.Attempt.Outcome, seconds(d.Attempt.Took))
	}
	if d.Attempt.SYNs > 1 {
		text += fmt.Sprintf(", %d SYNs", d.Attempt.SYNs)
	}
	return report.Plain(text)
}

// plainly says what was seen of an attempt whose cause is not known.
func (v *view) plainly(d diagnose.Diagnosis) string {
	what := map[diagnose.Symptom]string{diagnose.Failed: "failed", diagnose.Late: "came late", diagnose.Broken: "broke after it was connected"}[d.Symptom]
	return report.Plain(fmt.Sprintf("The connection of %s %s; why is %s.", d.Attempt.Node, what, d.Status))
}

// where says in a sentence where the SYNs ended, as the taps saw it.
func (v *view) where(d diagnose.Diagnosis) string {
	_, unknown := v.r.Missing[recording.OfPackets]
	switch n := len(d.SYNs); {
	case unknown:
		return "The packets are not known."
	case d.Symptom == diagnose.Broken:
		return ""
	case n == 0 && d.Symptom == diagnose.Failed:
		return "No tap saw a SYN of it that was not answered."
	case n == 0:
		return ""
	}
	count := len(d.SYNs)
	these := fmt.Sprintf("All %d SYNs", count)
	if count == 1 {
		these = "The SYN"
	}
	node, end, same := v.ended(d)
	if !same {
		return fmt.Sprintf("%d SYNs got no SYN-ACK; they ended at different places, see the ladder.", count)
	}
	switch end {
	case diagnose.Stopped:
		return report.Plain(fmt.Sprintf("%s came into %s and did not leave it.", these, node))
	case diagnose.OnTheWay:
		return report.Plain(fmt.Sprintf("%s left %s and came into no other node.", these, node))
	case diagnose.Delivered:
		return report.Plain(fmt.Sprintf("%s reached %s, which sent no SYN-ACK.", these, node))
	case diagnose.Unseen:
		return report.Plain(fmt.Sprintf("%s left %s for where nothing was recorded.", these, node))
	}
	return ""
}

// proof links a fact to the evidence that it speaks of: a row that it names, or else the section.
func (v *view) proof(d diagnose.Diagnosis, f diagnose.Fact) proof {
	p := proof{Says: report.Plain(f.Says), Kind: string(f.By)}
	href := v.section("steps")
	switch f.By {
	case recording.OfErrno:
		href = v.id("step%d", d.Step)
	case recording.OfPackets, recording.OfEvents:
		href = v.section("packets")
		if i := slices.IndexFunc(v.lives, func(l *life) bool { return v.isOf(d, l) }); i >= 0 {
			href = v.packetID(v.lives[i])
		}
	case recording.OfCounters:
		href = v.named(v.counterRows, f.Says, v.section("counters"))
	case recording.OfRules:
		href = v.named(v.ruleRows, f.Says, v.section("rules"))
	case recording.OfSockets:
		href = v.section("sockets")
	case recording.OfFlows:
		href = v.section("flows")
	case recording.OfLogs:
		href = v.section("programs")
	}
	if !v.has[href] {
		href = v.section("steps")
	}
	p.Href = "#" + href
	return p
}

// isOf reports whether a packet is the first SYN that was not answered, or, for an attempt that
// has none, its first packet at all.
func (v *view) isOf(d diagnose.Diagnosis, l *life) bool {
	if len(d.SYNs) > 0 {
		return l.First().Time.Equal(d.SYNs[0].First().Time) && l.First().Src == d.SYNs[0].First().Src
	}
	p := l.First()
	return ends(p) == ends(recording.Packet{Src: d.Attempt.Local, Dst: d.Attempt.Remote})
}

// row is a row of a table that a fact can name.
type row struct{ id, node, name string }

// named finds the row whose node and name are both in a text; of several the one with the
// longest name.
func (v *view) named(rows []row, text, otherwise string) string {
	best := row{id: otherwise}
	for _, r := range rows {
		if strings.Contains(text, r.name) && strings.Contains(text, r.node) && len(r.name) > len(best.name) {
			best = r
		}
	}
	return best.id
}
