package timewait

import (
	"slices"
	"strings"

	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// tickOfPAWS is by how many ticks a SYN may be older than the remembered timestamp of its
// address: TCP_PAWS_WINDOW.
const tickOfPAWS = 1

// clocks compares the second client's timestamp with the first one's.
func (t secondTry) clocks() string {
	switch {
	case !t.withTimestamps:
		return "none"
	case t.Behind > tickOfPAWS:
		return "older"
	default:
		return "not older"
	}
}

// summary notes each value once if it was the same in all tries, and otherwise lists all
// values.
func summary(tries []secondTry) (seen claim.Seen) {
	common := func(what string, of func(secondTry) string) {
		var all []string
		for _, t := range tries {
			if got := of(t); !slices.Contains(all, got) {
				all = append(all, got)
			}
		}
		seen.Note(what, strings.Join(all, " / "))
	}
	for _, what := range []string{"outcome", "answers", "all syns reached", "reset"} {
		common(what, func(t secondTry) string {
			got, _ := t.Observations().Get(what)
			return got
		})
	}
	common("clocks", secondTry.clocks)
	soonest, latest, synAcks := tries[0].Second.Took, tries[0].Second.Took, 0
	for _, t := range tries {
		soonest, latest = min(soonest, t.Second.Took), max(latest, t.Second.Took)
		synAcks += t.SYNs.SYNACKs
	}
	seen.Count("soonest ms", soonest.Milliseconds())
	seen.Count("latest ms", latest.Milliseconds())
	seen.Count("syn-acks", int64(synAcks))
	seen.Count("ticks behind", int64(tries[len(tries)-1].Behind))
	return seen
}

// twoAgesEvidence is what [twoAges.drive] notes of all tries of the second client.
func twoAgesEvidence() []claim.Evidence {
	own := []claim.Evidence{
		situation.RecycleEvidence, situation.TimeWaitEvidence, situation.PassiveRejectsEvidence,
		{Name: "tried s", Unit: "s", Means: "for how long the second client tried"},
		{Name: "soonest ms", Unit: situation.InMS, Means: "how long the shortest connect(2) of all tries took"},
		{Name: "latest ms", Unit: situation.InMS, Means: "how long the longest connect(2) of all tries took"},
		{Name: "ticks behind", Unit: "ticks", Means: "by how many ticks the last SYN's timestamp was older than the one that the balancer remembered", Aside: true},
		{Name: "afterwards", Unit: situation.AnOutcome, Means: "the result of the second client's attempt after the first client had stopped"},
		{Name: "let in because", Unit: "caught up, forgotten or nothing", Means: "why the second client could connect then: its clock had caught up, or 60 s had passed"},
		{Name: "silence s", Unit: "s", Means: "how long after the first client's last connection the second client connected", Aside: true},
	}
	same := slices.DeleteFunc(situation.TupleEvidence(), func(e claim.Evidence) bool {
		return !slices.Contains([]string{"outcome", "answers", "all syns reached", "reset", "clocks", "syn-acks", "paws rejects"}, e.Name)
	})
	return append(same, own...)
}
