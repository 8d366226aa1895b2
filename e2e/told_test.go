package e2e

import (
	"bytes"
	"fmt"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/recording"
	"twlab/harness/scriptfile"
	"twlab/scenarios"
	"twlab/scenarios/situation"
)

// What twlab show prints of a cell is a file that runs, and what its rule predicts comes about.
// An ordinary run has a cell of each rule; a label filter that names "full" has the others, too.
var _ = Describe("A cell that is told as a scenario file", Label("shown"), func() {
	p, err := planOnce()
	if err != nil {
		return // the cells say so
	}
	for _, told := range scenarios.TellAll(p.Kernels, wantsAll()) {
		labels := Labels{"shown:" + told.Family}
		if told.More {
			labels = append(labels, "full")
		}
		It(told.Scenario.Name+" is "+told.Rule, labels, func(ctx SpecContext) {
			var text bytes.Buffer
			Expect(scriptfile.Write(&text, told.Scenario)).To(Succeed())
			f, err := scriptfile.Read("shown.yaml", text.Bytes())
			Expect(err).NotTo(HaveOccurred())
			// Its packets are kept with those of the cell itself.
			seen := recorded(ctx, f.Scenarios[0])
			if slow := tooSlow(seen, told.Hurry); slow != "" && seen.Verdict() == recording.NotAsExpected {
				Skip(slow)
			}
			Expect(verdict(seen)).To(Equal(recording.AsExpected), "what was seen is above")
		})
	}
})

// tooSlow says that a scenario has not come about because the machine was too slow: all went well
// until a step began too late. It is empty otherwise.
func tooSlow(seen recording.Recording, hurry situation.Hurry) string {
	if hurry == (situation.Hurry{}) || len(seen.Steps) <= hurry.To {
		return ""
	}
	for _, s := range seen.Steps[:hurry.To] {
		if s.Problem != "" || slices.ContainsFunc(s.Findings, func(f recording.Finding) bool { return !f.Met }) {
			return ""
		}
	}
	if took := seen.Steps[hurry.To].Began - seen.Steps[hurry.From].Began; took > hurry.Within {
		return fmt.Sprintf("this machine was too slow: step %d began %v after step %d, and %v is the limit", hurry.To+1, took, hurry.From+1, hurry.Within)
	}
	return ""
}
