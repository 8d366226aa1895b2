package e2e

import (
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"

	"twlab/harness/play"
	"twlab/harness/recording"
	"twlab/harness/scriptfile"
	"twlab/scenarios/results"
)

// mostPackets is how many sightings of packets are kept of a cell. Those of a load are many, and
// its series says what they came to.
const mostPackets = 400

// keepFile keeps the recording of a scenario file, for the page of the run.
func keepFile(kind string, f scriptfile.File, twin bool, r recording.Recording) {
	GinkgoHelper()
	r.Twin, r.File = twin, recording.File{Name: filepath.Base(f.Name), Text: string(f.Text)}
	noError(results.WriteFile(filepath.Join(outputDir(), results.RecordingsDir), fileName(r.Scenario), results.File{Kind: kind, Recording: r}))
}

// keepPackets keeps the packets of a cell, if all of them are known and they are few.
func (l specLab) keepPackets(title string) {
	GinkgoHelper()
	packets, err := l.Packets()
	if err != nil || len(packets) == 0 || len(packets) > mostPackets {
		return
	}
	plan, err := l.Topology().Network().Plan()
	noError(err)
	r := play.Packets(title, plan, packets)
	noError(results.WriteFile(filepath.Join(outputDir(), results.RecordingsDir), fileName(title), results.File{Kind: results.OfCell, Recording: r}))
}
