package e2e

import (
	"errors"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/ipvs"
	"twlab/harness/play"
	"twlab/harness/script"
	"twlab/scenarios/incidents"
	"twlab/scenarios/roles"
)

// What people really ran into, and that each file can tell the right answer from another.
var _ = Describe("Incident", Label("incident"), func() {
	all, err := incidents.All()
	if err != nil {
		It("files can be read", func() { Expect(err).NotTo(HaveOccurred()) })
		return
	}
	for _, f := range all {
		name := "file:" + strings.TrimSuffix(f.Name, ".yaml")
		for _, s := range f.Scenarios {
			It(s.Name, Label(name), func(ctx SpecContext) {
				Expect(played(ctx, s)).To(Equal(play.AsExpected), "what was seen is above")
			})
		}
		for _, s := range f.Twins {
			It(s.Name+" is not as expected", Label(name, "twin"), func(ctx SpecContext) {
				Expect(played(ctx, s)).To(Equal(play.NotAsExpected), "with this value something must be different")
			})
		}
	}
})

// played runs a scenario, and shows what was seen if the spec fails.
func played(ctx SpecContext, s script.Scenario) play.Verdict {
	GinkgoHelper()
	if *kernelsFile != "" {
		Skip("incidents have nodes of their own names, so that no role has another kernel; use --kernel all=")
	}
	recording, err := play.Run(ctx, s, roles.Probe)
	Expect(recording.WriteText(GinkgoWriter)).To(Succeed())
	if errors.Is(err, ipvs.ErrMissing) {
		Skip(err.Error())
	}
	Expect(err).NotTo(HaveOccurred())
	if verdict := recording.Verdict(); verdict != play.CannotHere {
		return verdict
	}
	Skip("not on this kernel: " + recording.Problem())
	return play.CannotHere
}
