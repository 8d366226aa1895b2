package e2e

import (
	"bytes"
	"fmt"

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

// tooSlow says that a scenario has not come about because the machine was too slow: its last step
// began too late. It is empty if that was in time.
func tooSlow(seen recording.Recording, hurry situation.Hurry) string {
	last := len(seen.Steps) - 1
	if hurry == (situation.Hurry{}) || last < hurry.Before {
		return ""
	}
	if took := seen.Steps[last].Began - seen.Steps[last-hurry.Before].Began; took > hurry.Within {
		return fmt.Sprintf("this machine was too slow: the last step began %v after the one that it depends on, and %v is the limit", took, hurry.Within)
	}
	return ""
}
