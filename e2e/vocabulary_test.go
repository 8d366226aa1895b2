package e2e

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"twlab/e2e/failure"
	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/situation"
)

// timeout bounds every wait for evidence. It is generous, because it decides
// nothing but when to give up.
const timeout = 30 * time.Second

// specLab is the lab of one spec.
type specLab struct{ *lab.Lab }

// noError fails the spec when there is an error, by the error's own words. Gomega
// would print the structs of all errors in it, each of which says the same again.
func noError(err error, what ...string) {
	GinkgoHelper()
	if err == nil {
		return
	}
	evidence := ""
	if CurrentSpecReport().FullText() != "" { // else no spec is under way
		evidence = evidenceDir()
	}
	Fail(failure.Text(append(what, "this could not be done")[0], err, evidence))
}

// noSituation is what a spec says that could not bring about what it is about.
const noSituation = "the situation did not come about; this says nothing about the kernel"

// up builds the lab, records the packets of its main links, and sees to it that
// evidence is kept when the spec fails and that everything is taken down.
func up(ctx SpecContext, topology lab.Topology) specLab {
	GinkgoHelper()
	assigned, err := otherKernels()
	noError(err)
	topology = assigned.On(topology)
	if err := topology.Validate(); err != nil && len(assigned.Kernels) > 0 {
		Skip("not with these kernels: " + err.Error())
	}
	built, err := lab.Build(ctx, topology)
	if errors.Is(err, kernel.ErrSysctlGlobal) || errors.Is(err, lab.ErrNoIPv6) {
		Skip("not on this kernel: " + err.Error())
	}
	noError(err, noSituation)
	l := specLab{built}
	start := l.counters(ctx)
	over := ctx.AttachProgressReporter(func() string { return l.progress(ctx) })
	DeferCleanup(func(ctx SpecContext) {
		over()
		if CurrentSpecReport().Failed() {
			l.keepEvidence(ctx, start)
		}
		noError(l.Close())
	})
	noError(l.Capture(l.mainLinks()...))
	return l
}

// mainLinks names the links worth recording: the balancer's, if it has one, and
// those of the first clients and of the first servers.
func (l specLab) mainLinks() []string {
	const enough = 4
	var links []string
	if l.Topology().Gateway.Kind != lab.NoGateway {
		links = append(links, string(lab.Balancer))
	}
	for _, role := range []lab.Role{lab.Client, lab.Server} {
		nodes := l.Nodes(role)
		for _, n := range nodes[:min(len(nodes), enough)] {
			links = append(links, n.Identity().Name)
		}
	}
	return links
}

func (l specLab) server() node.Node { return l.Servers()[0] }

// serve listens on port 80 of a node, or on the port given, and ends each
// connection as said. It returns where others connect to.
func serve(ctx SpecContext, at node.Node, ending tcp.Ending, port ...uint16) netip.AddrPort {
	GinkgoHelper()
	return listen(ctx, at, tcp.ListenSpec{Ending: ending, At: netip.AddrPortFrom(netip.Addr{}, append(port, 80)[0])})
}

func listen(ctx SpecContext, at node.Node, spec tcp.ListenSpec) netip.AddrPort {
	GinkgoHelper()
	listening, err := at.Listen(ctx, spec)
	noError(err)
	return listening.Addr
}

// attempt connects n times, one after the other, each as the example says.
func attempt(ctx SpecContext, from node.Node, n int, example tcp.Attempt) []tcp.Result {
	GinkgoHelper()
	var outcomes []tcp.Result
	for range n {
		out, err := from.Attempt(ctx, []tcp.Attempt{example})
		noError(err)
		outcomes = append(outcomes, ended(out)...)
	}
	return outcomes
}

// ended wants that each connection ended as its attempt says.
func ended(outcomes []tcp.Result) []tcp.Result {
	GinkgoHelper()
	for _, o := range outcomes {
		noError(o.End.Err(), o.String())
	}
	return outcomes
}

// attemptTogether connects n times at once: no port is free again before all have
// theirs.
func attemptTogether(ctx SpecContext, from node.Node, n int, example tcp.Attempt) []tcp.Result {
	GinkgoHelper()
	outcomes, err := from.Attempt(ctx, slices.Repeat([]tcp.Attempt{example}, n))
	noError(err)
	return ended(outcomes)
}

// sockets reads a node's socket table.
func sockets(ctx context.Context, at node.Node) observe.Sockets {
	GinkgoHelper()
	s, err := at.Sockets(ctx)
	noError(err)
	return s
}

// flows reads a node's conntrack table.
func flows(ctx context.Context, at node.Node) []observe.Flow {
	GinkgoHelper()
	f, err := at.Flows(ctx)
	noError(err)
	return f
}

// watch starts counting at a node; the function it returns tells how the
// counters have moved since.
func watch(ctx SpecContext, at node.Node) func() kernel.Counters {
	GinkgoHelper()
	return watching(ctx, at.Counters)
}

func watching(ctx SpecContext, counters func(context.Context) (kernel.Counters, error)) func() kernel.Counters {
	GinkgoHelper()
	read := func() kernel.Counters {
		GinkgoHelper()
		c, err := counters(ctx)
		noError(err)
		return c
	}
	before := read()
	return func() kernel.Counters {
		GinkgoHelper()
		return read().Sub(before)
	}
}

// watchProgram starts counting what the balancer's program counts; see watch.
func (l specLab) watchProgram(ctx SpecContext) func() kernel.Counters {
	GinkgoHelper()
	program, err := l.Program()
	noError(err)
	return watching(ctx, program.Stats)
}

// programLog is what the balancer's program has said.
func (l specLab) programLog() (string, error) {
	program, err := l.Program()
	if err != nil {
		return "", err
	}
	return program.Log()
}

// syns accounts for the SYNs of one outcome of a client's attempt.
func (l specLab) syns(from node.Node, out tcp.Result, to netip.AddrPort) observe.SYNAccount {
	GinkgoHelper()
	packets, err := l.Packets()
	noError(err)
	return observe.AccountSYNs(packets, l.Path(from.Identity().Name), out.Local, to)
}

// meet drives the five-tuple situation in the lab.
func (l specLab) meet(ctx SpecContext, situation situation.FiveTuple) situation.FiveTupleSeen {
	GinkgoHelper()
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	seen, err := situation.Drive(within, l.Lab)
	noError(err)
	return seen
}

// peers lists the addresses at the other ends, each once.
func peers(all observe.Sockets) []netip.Addr {
	seen := map[netip.Addr]bool{}
	for _, s := range all {
		seen[s.Remote.Addr()] = true
	}
	return slices.Collect(maps.Keys(seen))
}
