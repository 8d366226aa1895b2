// Package e2e tries what the document says on the running kernel, and asserts
// what it sees. It is the only place of twlab that fails or skips.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"twlab/harness/haproxy"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/leak"
	"twlab/harness/observe"
	"twlab/harness/recycle"
)

func TestSuite(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(timeout)
	RunSpecs(t, "twlab")
}

// The suite's own surroundings, the host's when it runs as root without the
// sandbox, must be the same afterwards. The first process looks before anybody
// builds a lab, and after everybody is done.
var before observe.Snapshot

// Each process of the suite must hold, when all its specs have ended, what it held
// before the first. Ginkgo captures what a spec prints by pipes and goroutines of its
// own, which are none of the specs': not while we look.
var held leak.Snapshot

var _ = BeforeSuite(func() {
	PauseOutputInterception()
	defer ResumeOutputInterception()
	var err error
	held, err = leak.Take()
	noError(err)
})

var _ = AfterSuite(func(ctx SpecContext) {
	if held.Zero() {
		return // no spec has begun
	}
	PauseOutputInterception()
	defer ResumeOutputInterception()
	soon, stop := context.WithTimeout(ctx, leak.Grace)
	defer stop()
	if err := held.Left(soon); err != nil {
		Fail("the specs of this process have " + err.Error())
	}
})

// The nodes for reports are those that only the first process runs, and shows: of
// SynchronizedBeforeSuite every process has lines of its own.
var _ = ReportBeforeSuite(func(ctx SpecContext, report Report) {
	if report.SuiteConfig.DryRun || report.PreRunStats.SpecsThatWillRun == 0 {
		return
	}
	preflight(ctx)
	var err error
	before, err = observe.SnapshotHost(ctx)
	noError(err)
})

var _ = ReportAfterSuite("surroundings", func(ctx SpecContext, _ Report) {
	if before == nil {
		return // the suite has not begun
	}
	after, err := observe.SnapshotHost(ctx)
	noError(err)
	Expect(observe.Diff(before, after)).To(BeEmpty(), "links, routes, rules or sysctls outside the labs changed during the run")
})

// preflight says in a line each what the machine offers, and stops the run when
// that is not enough.
func preflight(ctx context.Context) {
	release, err := kernel.Running()
	noError(err)
	lines := []string{"kernel: Linux " + release.String()}
	assigned, err := otherKernels()
	Expect(err).NotTo(HaveOccurred())
	lines = append(lines, assigned.Lines()...)
	known, err := runningKernels()
	noError(err)
	lines = append(lines, known.Disagreements()...)
	var missing []error
	for _, finding := range kernel.Examine(ctx, append(lab.Requirements(), haproxy.Requirement(), recycle.Requirement())) {
		lines = append(lines, finding.String())
		if !finding.Met() {
			missing = append(missing, errors.New(finding.String()))
		}
		if finding.Fact != kernel.Yes && finding.Requirement.Name == "network namespaces" {
			break // without them nothing else can be found out
		}
	}
	AddReportEntry("preflight", "\n  "+strings.Join(lines, "\n  "), ReportEntryVisibilityAlways)
	noError(os.MkdirAll(outputDir(), 0o755), "set TWLAB_OUTPUT_DIR to a directory that can be written")
	noError(os.WriteFile(filepath.Join(outputDir(), "preflight.txt"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	if len(missing) > 0 {
		Fail(fmt.Sprintf("this machine cannot run the specs:\n%v", errors.Join(missing...)))
	}
}
