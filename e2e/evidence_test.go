package e2e

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/topo"
)

// evidenceNodes is for how many nodes of a lab evidence is written in full.
const evidenceNodes = 12

// outputDir is where evidence goes: TWLAB_OUTPUT_DIR, as hack/e2e sets it, or
// .out at the top of the repository.
func outputDir() string {
	if dir := os.Getenv("TWLAB_OUTPUT_DIR"); dir != "" {
		return dir
	}
	return filepath.Join("..", ".out")
}

// evidenceDir is where the evidence of the running spec goes.
func evidenceDir() string {
	return filepath.Join(outputDir(), "evidence", fileName(CurrentSpecReport().FullText()))
}

// counters reads the counters of the nodes that evidence is kept of.
func (l specLab) counters(ctx context.Context) map[string]kernel.Counters {
	all := map[string]kernel.Counters{}
	for _, n := range l.observed() {
		if c, err := n.Counters(ctx); err == nil { // a missing one shows in the evidence
			all[n.Identity().Name] = c
		}
	}
	return all
}

// observed are the nodes that evidence is kept of.
func (l specLab) observed() []node.Node {
	nodes := append(l.Nodes(lab.Gateway), l.Nodes(lab.Balancer)...)
	nodes = append(nodes, l.Servers()...)
	nodes = append(nodes, l.Nodes(lab.Client)...)
	return nodes[:min(len(nodes), evidenceNodes)]
}

// keepEvidence writes down the state of the lab and its packets, and adds where
// to the spec's report.
func (l specLab) keepEvidence(ctx context.Context, start map[string]kernel.Counters) {
	dir := evidenceDir()
	text := &strings.Builder{}
	for _, n := range l.observed() {
		describe(ctx, text, n, start[n.Identity().Name])
	}
	packets, err := l.Packets()
	if err != nil {
		fmt.Fprintf(text, "packets: %v\n", err)
	}
	fmt.Fprintf(text, "== packets\n")
	for _, p := range packets {
		fmt.Fprintf(text, "%v\n", p)
	}
	for name, console := range l.Consoles() {
		fmt.Fprintf(text, "== console of %s\n%s\n", name, console)
	}
	if program, err := l.Program(); err == nil {
		describeProgram(ctx, text, program)
	}
	AddReportEntry("evidence", dir)
	if err := writeEvidence(dir, text.String(), packets); err != nil {
		AddReportEntry("evidence could not be written", fmt.Sprintf("%v\n%s", err, text))
	}
}

func writeEvidence(dir, text string, packets []observe.Packet) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "state.txt"), []byte(text), 0o644); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "packets.pcapng"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return observe.WritePcapng(file, packets)
}

// describe writes what a node's observations say now. Evidence that cannot be
// asked says why.
func describe(ctx context.Context, out *strings.Builder, n node.Node, start kernel.Counters) {
	id := n.Identity()
	fmt.Fprintf(out, "== %s (%s, %v)\n", id.Name, id.Role, id.Addr)
	if now, err := n.Counters(ctx); err != nil {
		fmt.Fprintf(out, "counters: %v\n", err)
	} else {
		fmt.Fprintf(out, "counters since the lab was built: %v\n", now.Sub(start).Moved())
	}
	sockets, err := n.Sockets(ctx)
	list(out, "sockets", sockets, err)
	flows, err := n.Flows(ctx)
	list(out, "conntrack", flows, err)
	rules, err := n.Rules(ctx)
	list(out, "rules", rules, err)
}

// describeProgram writes what the balancer's program was told, counts and says.
func describeProgram(ctx context.Context, out *strings.Builder, program topo.Running) {
	fmt.Fprintf(out, "== the balancer's configuration\n%s", program.Configuration())
	if stats, err := program.Stats(ctx); err != nil {
		fmt.Fprintf(out, "== the balancer's statistics: %v\n", err)
	} else {
		fmt.Fprintf(out, "== the balancer's statistics\n%v\n", stats.Moved())
	}
	if log, err := program.Log(); err != nil {
		fmt.Fprintf(out, "== the balancer's log: %v\n", err)
	} else {
		fmt.Fprintf(out, "== the balancer's log\n%s", log)
	}
}

func list[T fmt.Stringer](out *strings.Builder, what string, items []T, err error) {
	if err != nil {
		fmt.Fprintf(out, "%s: %v\n", what, err)
		return
	}
	fmt.Fprintf(out, "%s: %d\n", what, len(items))
	for _, item := range items {
		fmt.Fprintf(out, "  %v\n", item)
	}
}

// keepSeries writes down what a load did over time, a line of JSON for each
// interval, and adds where to the spec's report.
func keepSeries(of string, series []byte) {
	GinkgoHelper()
	path := filepath.Join(outputDir(), "series", fileName(of)+".jsonl")
	noError(os.MkdirAll(filepath.Dir(path), 0o755))
	noError(os.WriteFile(path, series, 0o644))
	AddReportEntry("series", path, ReportEntryVisibilityFailureOrVerbose)
}

// progress says how full the tables of the lab are now, for Ginkgo's reports on
// specs that are under way (--poll-progress-after).
func (l specLab) progress(ctx context.Context) string {
	var lines []string
	for _, n := range l.observed() {
		full, err := n.Occupancy(ctx)
		if err != nil {
			lines = append(lines, err.Error())
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %d sockets, %d in TIME_WAIT, %d flows", n.Identity().Name, full.Sockets, full.TimeWait, full.Flows))
	}
	return strings.Join(lines, "\n")
}

var notForFileNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

// fileName makes a readable file name of a spec's full text: another one for each.
func fileName(text string) string {
	const most = 120
	name := strings.Trim(notForFileNames.ReplaceAllString(text, "-"), "-")
	if len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s-%08x", name[:most], crc32.ChecksumIEEE([]byte(text)))
}
