package e2e

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/scenarios/causes"
	"twlab/scenarios/incidents"
	"twlab/scenarios/roles"
)

// What people really ran into, and that each file can tell the right answer from another.
var _ = Describe("Incident", Label("incident"), func() {
	files("incident", incidents.All)
})

// Each cause that package diagnose knows, brought about, and told from what it looks like.
var _ = Describe("Cause", Label("cause"), func() {
	files("cause", causes.All)
})

// files makes specs of scenario files of a kind.
func files(kind string, of func() ([]scriptfile.File, error)) {
	all, err := of()
	if err != nil {
		It("files can be read", func() { Expect(err).NotTo(HaveOccurred()) })
		return
	}
	for _, f := range all {
		name := "file:" + strings.TrimSuffix(f.Name, ".yaml")
		for _, s := range f.Scenarios {
			It(s.Name, Label(name), func(ctx SpecContext) {
				Expect(played(ctx, kind, f, s, false).String()).To(Equal(recording.AsExpected.String()), "what was seen is above")
			})
		}
		for _, s := range f.Twins {
			It(s.Name+" is not as expected", Label(name, "twin"), func(ctx SpecContext) {
				Expect(played(ctx, kind, f, s, true).String()).To(Equal(recording.NotAsExpected.String()), "with this value something must be different")
			})
		}
	}
}

// played runs a scenario of a file, keeps its recording, and shows what was seen if the spec fails.
func played(ctx SpecContext, kind string, f scriptfile.File, s script.Scenario, twin bool) recording.Verdict {
	GinkgoHelper()
	seen := recorded(ctx, s)
	keepFile(kind, f, twin, seen)
	return verdict(seen)
}

// recorded runs a scenario, and shows what was seen if the spec fails.
func recorded(ctx SpecContext, s script.Scenario) recording.Recording {
	GinkgoHelper()
	if *kernelsFile != "" {
		Skip("incidents have nodes of their own names, so that no role has another kernel; use --kernel all=")
	}
	seen, err := play.Run(ctx, s, roles.Probe)
	Expect(report.Text(GinkgoWriter, seen)).To(Succeed())
	Expect(err).NotTo(HaveOccurred())
	return seen
}

// verdict is that of a recording. What this kernel cannot run is skipped.
func verdict(seen recording.Recording) recording.Verdict {
	GinkgoHelper()
	if verdict := seen.Verdict(); verdict != recording.CannotHere {
		return verdict
	}
	Skip("not on this kernel: " + seen.Problem())
	return recording.CannotHere
}
