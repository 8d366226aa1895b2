package e2e

import (
	"bytes"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/recording"
	"twlab/harness/scriptfile"
	"twlab/scenarios"
)

// What twlab show prints of a cell is a file that runs, and what its rule predicts comes about.
// An ordinary run has a cell of each rule; a label filter that names "full" has the others, too.
var _ = Describe("A cell that is told as a scenario file", Label("shown"), func() {
	p, err := planOnce()
	if err != nil {
		return // the cells say so
	}
	for _, told := range scenarios.TellAll(p.Kernels) {
		labels := Labels{"shown:" + told.Family}
		if told.More {
			labels = append(labels, "full")
		}
		if told.More && !wantsAll() {
			continue
		}
		It(told.Scenario.Name+" is "+told.Rule, labels, func(ctx SpecContext) {
			var text bytes.Buffer
			Expect(scriptfile.Write(&text, told.Scenario)).To(Succeed())
			f, err := scriptfile.Read("shown.yaml", text.Bytes())
			Expect(err).NotTo(HaveOccurred())
			// Its packets are kept with those of the cell itself.
			Expect(verdict(recorded(ctx, f.Scenarios[0]))).To(Equal(recording.AsExpected), "what was seen is above")
		})
	}
})
