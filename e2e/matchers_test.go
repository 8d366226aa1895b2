package e2e

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gcustom"
	"github.com/onsi/gomega/types"

	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// HaveOutcomes matches a list of n outcomes that all have the outcome.
func HaveOutcomes(want tcp.Outcome, n int) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(outcomes []tcp.Result) (bool, error) {
		for _, o := range outcomes {
			if o.Outcome != want {
				return false, nil
			}
		}
		return len(outcomes) == n, nil
	}).WithTemplate("Expected {{.Data.N}} outcomes to be {{if .To}}all{{else}}not all{{end}} {{.Data.Want}}, got:\n{{range .Actual}}  {{.}}{{if ne .Outcome $.Data.Want}}   <-- wrong{{end}}\n{{else}}  none\n{{end}}").
		WithTemplateData(struct {
			Want tcp.Outcome
			N    int
		}{want, n})
}

// HaveSockets matches a socket table with exactly n sockets in the state.
func HaveSockets(n int, in observe.State) types.GomegaMatcher {
	return WithTransform(func(all observe.Sockets) observe.Sockets { return all.In(in) }, HaveLen(n))
}

// HaveUnread matches a socket table in which exactly n connections have data that
// nobody has read yet.
func HaveUnread(n int) types.GomegaMatcher {
	return WithTransform(func(all observe.Sockets) observe.Sockets {
		return slices.DeleteFunc(all.In(observe.Established), func(s observe.Socket) bool { return s.RecvQueue == 0 })
	}, HaveLen(n))
}

// HaveTimeWait matches a socket table with exactly n sockets in TIME_WAIT.
func HaveTimeWait(n int) types.GomegaMatcher { return HaveSockets(n, observe.TimeWait) }

// Rise matches a difference of counters in which each of the named ones went up.
// Counters count packets: how far up is not said.
func Rise(names ...string) types.GomegaMatcher {
	return counters("have risen", names, func(by uint64) bool { return by > 0 })
}

// StayStill matches a difference of counters in which each of the named ones is
// exactly as before.
func StayStill(names ...string) types.GomegaMatcher {
	return counters("have stayed still", names, func(by uint64) bool { return by == 0 })
}

func counters(what string, names []string, right func(by uint64) bool) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(moved kernel.Counters) (bool, error) {
		for _, name := range names {
			by, counted := moved[name]
			if !counted {
				return false, fmt.Errorf("this kernel has no counter %s", name)
			}
			if !right(by) {
				return false, nil
			}
		}
		return true, nil
	}).WithTemplate("Expected {{.Data.Names}} {{.To}} "+what+". What moved:\n  {{.Actual.Moved}}",
		struct{ Names string }{strings.Join(names, " and ")})
}

// HaveAnswers matches an account in which every SYN sent reached the balancer
// and was answered as listed, the first SYN first, and every answer got back.
func HaveAnswers(want ...observe.Answer) types.GomegaMatcher {
	return gcustom.MakeMatcher(func(account observe.SYNAccount) (bool, error) {
		for i, syn := range account.SYNs {
			if i >= len(want) || syn.Answer != want[i] || !syn.Reached || !syn.AnswerReachedClient {
				return false, nil
			}
		}
		return len(account.SYNs) == len(want), nil
	}).WithTemplate("Expected SYNs {{.To}} be answered by {{.Data}}, got:\n  {{.Actual}}", want)
}
