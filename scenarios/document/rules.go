package document

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios"
	"twlab/scenarios/claim"
	"twlab/scenarios/nat"
	"twlab/scenarios/timewait"
)

// RenderRules writes RULES.md: what proves each claim, and all rules by family.
func RenderRules(to io.Writer) error {
	var out strings.Builder
	tried, emulated := triedByRule(), emulatedByRule()
	out.WriteString(rulesIntroduction)
	out.WriteString("\n## Proofs of the claims\n\nThe numbers are those of [CLAIMS.md](CLAIMS.md).\n")
	number := 0
	for _, section := range Document() {
		for _, c := range section.Claims {
			number++
			renderProofs(&out, number, c, tried, emulated)
		}
	}
	fmt.Fprintf(&out, "\n## Families and rules\n\n")
	fmt.Fprintf(&out, "The first rule that matches a cell and its kernels applies. If a feature has a probe, the probe on the running kernel decides.\n")
	renderTotals(&out, tried)
	for _, f := range scenarios.Families() {
		renderFamily(&out, f.Family, tried)
	}
	renderProfiles(&out)
	renderFeatures(&out)
	renderCounters(&out)
	_, err := io.WriteString(to, out.String())
	return err
}

const rulesIntroduction = `<!-- Generated from scenarios/*/*.go by go test ./scenarios/document -update. Edit those. -->

# Families, cells and rules

A *family* is a situation with axes, and a *cell* one combination of their values. A *rule* says what must be seen in some cells on
some kernels, with its reason and its source. Tests try each rule in its cells on the running kernel, and fail if the kernel does
something else. Labels are the family, the rule and the values of the axes:

    hack/e2e --label-filter 'family:tuple && rfc1337:1'
    hack/e2e --label-filter 'rule:tuple-older-timestamp-answered'
    hack/e2e --label-filter '/^rule:exhaustion-reuse-/'
    hack/e2e --label-filter 'full && !slow && family:tuple'

The third is for all rules whose names begin so, the fourth for every possible cell and not only the chosen ones.

Words: a *five-tuple* is the protocol, both addresses and both ports. The *balancer* is the host in the place of HAProxy, the
*gateway* is the NAT in front of the *client*. The number in brackets after a rule is the number of its cells that an ordinary run
tries on the newest kernel that the rules know. An ordinary run tries all combinations of the axes that the document names, and all
pairs of values of the others. Rules for older kernels are taken from the kernel sources, and are tried where such a kernel runs.
The *cause* of a rule is why not all goes well in its cells. The specs of label ` + "`shown`" + ` run cells as scenario files, which expect it.

A rule that cannot fail proves nothing, so each is also tried in labs in which it must fail:

    hack/twlab mutate --family tuple
`

// trials counts the cells of a rule that are tried: in an ordinary run, and only in
// virtual time.
type trials struct{ ordinary, virtual int }

// triedByRule counts the cells of each rule.
func triedByRule() map[string]trials {
	tried := map[string]trials{}
	for _, f := range scenarios.Families() {
		for _, c := range f.Chosen(claim.Newest()) {
			r, _ := f.Rule(c, claim.Newest())
			n := tried[r.Name]
			if f.NeedsVirtualTime(c) {
				n.virtual++
			} else {
				n.ordinary++
			}
			tried[r.Name] = n
		}
	}
	return tried
}

// emulatedByRule counts, for each rule about older kernels, the cells in which an
// emulation is tried.
func emulatedByRule() map[string]int {
	emulated := map[string]int{}
	for _, e := range timewait.Emulations() {
		f, as := e.Family(), e.Kernels(claim.Newest())
		for _, c := range e.Chosen(claim.Newest(), false) {
			if r, covered := f.Rule(c, as); covered {
				emulated[r.Name]++
			}
		}
	}
	return emulated
}

// renderProofs lists the rules behind one claim.
func renderProofs(out *strings.Builder, number int, c Claim, tried map[string]trials, emulated map[string]int) {
	fmt.Fprintf(out, "\n<a id=\"claim-%d\"></a>**[%d](CLAIMS.md#%d). %s**\n", number, number, number, c.English)
	var proofs, others, guests, virtual []string
	standIns := 0
	for _, r := range c.Proofs() {
		link := fmt.Sprintf("[`%s`](#%s)", r.Name, r.Name)
		switch n := tried[r.Name]; {
		case n.ordinary > 0:
			proofs = append(proofs, fmt.Sprintf("%s (%d)", link, n.ordinary))
		case n.virtual > 0:
			virtual = append(virtual, fmt.Sprintf("%s (%d)", link, n.virtual))
		case slices.Contains(r.Kernels, claim.Has(lab.Client, kernel.IsGuest)):
			guests = append(guests, link)
		default:
			others = append(others, link)
			standIns += emulated[r.Name]
		}
	}
	if len(proofs) > 0 {
		fmt.Fprintf(out, "\nProved by: %s\n", strings.Join(proofs, ", "))
	}
	if len(others) > 0 {
		fmt.Fprintf(out, "\nFor older kernels, read from their sources: %s\n", strings.Join(others, ", "))
	}
	if standIns > 0 {
		fmt.Fprintf(out, "\nWithout such a kernel an emulation runs instead, which proves nothing about any kernel: `hack/e2e --label-filter emulated` (%d cells)\n", standIns)
	}
	if len(virtual) > 0 {
		fmt.Fprintf(out, "\nProved in virtual time, where idle time is skipped (`hack/e2e --kernel all=NAME --virtual-time --label-filter virtual-time`): %s\n", strings.Join(virtual, ", "))
	}
	if len(guests) > 0 {
		fmt.Fprintf(out, "\nTried with guests as clients (`hack/e2e --kernel client=KERNEL`): %s\n", strings.Join(guests, ", "))
	}
}

func renderFamily(out *strings.Builder, f claim.Family, tried map[string]trials) {
	ordinary, slow, virtual := 0, 0, 0
	for _, c := range f.Chosen(claim.Newest()) {
		switch {
		case f.NeedsVirtualTime(c):
			virtual++
			continue
		case f.IsSlow(c):
			slow++
		}
		ordinary++
	}
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n", f.Name, f.About)
	fmt.Fprintf(out, "An ordinary run tries %d of %d possible cells, %d of them slow. ", ordinary, len(f.All()), slow)
	if virtual > 0 {
		fmt.Fprintf(out, "%d more cells take hours or days; they are tried only in virtual time, where idle time is skipped. ", virtual)
	}
	out.WriteString("Axes, the usual value first:\n\n")
	for _, a := range f.Axes {
		fmt.Fprintf(out, "- `%s` {%s}: %s\n", a.Name, strings.Join(a.Values, ", "), a.Means)
	}
	if len(f.Impossible) > 0 {
		out.WriteString("\nImpossible:\n\n")
	}
	for _, i := range f.Impossible {
		fmt.Fprintf(out, "- %s: %s\n", where(f, i.Cells), i.Because)
	}
	out.WriteString("\nEvidence that the driver records (counters are listed [at the end](#counters)):\n\n")
	for _, e := range f.Evidence {
		aside := ""
		if e.Aside {
			aside = "; shown only, no rule uses it"
		}
		fmt.Fprintf(out, "- `%s` (%s): %s%s\n", e.Name, e.Unit, e.Means, aside)
	}
	for _, r := range f.Rules {
		fmt.Fprintf(out, "\n#### %s\n\n", r.Name)
		var when []string
		if where := where(f, r.Cells); where != "" {
			when = append(when, "when "+where)
		}
		for _, q := range r.Kernels {
			when = append(when, "the "+q.String())
		}
		if len(when) > 0 {
			fmt.Fprintf(out, "%s: ", capital(strings.Join(when, ", ")))
		} else {
			out.WriteString("Otherwise: ")
		}
		fmt.Fprintf(out, "%s. (%s) [%d]\n\n", r.Because, r.Source, tried[r.Name].ordinary+tried[r.Name].virtual)
		if r.OutOfReach {
			out.WriteString("- out of reach: not tried, and nothing is claimed\n")
		}
		for _, e := range r.Want {
			fmt.Fprintf(out, "- %s\n", e)
		}
		if cause := causeOf(f, r); cause != "" {
			fmt.Fprintf(out, "- %s\n", cause)
		}
	}
}

// causeOf says which cause a rule names, of which cells, or why it names none; empty where all goes
// well.
func causeOf(f claim.Family, r claim.Rule) string {
	link := func(id string) string { return fmt.Sprintf("[%s](CAUSES.md#%[1]s)", id) }
	switch {
	case r.Uncaused != "":
		return "cause: none is named; " + r.Uncaused
	case r.Cause == "":
		return ""
	}
	text := "cause: " + link(r.Cause)
	for _, other := range r.OtherCauses {
		text += fmt.Sprintf("; when %s: %s", where(f, other.Cells), link(other.Cause))
	}
	return text
}

// renderTotals says how many of everything there are.
func renderTotals(out *strings.Builder, tried map[string]trials) {
	families := scenarios.Families()
	possible, rules, withCells, emulated := 0, 0, 0, 0
	var all trials
	for _, f := range families {
		possible += len(f.All())
		rules += len(f.Rules)
	}
	for _, n := range tried {
		withCells++
		all.ordinary += n.ordinary
		all.virtual += n.virtual
	}
	for _, n := range emulatedByRule() {
		emulated += n
	}
	fmt.Fprintf(out, "\nThere are %d families with %d possible cells and %d rules. On the newest kernel an ordinary run tries %d cells, virtual time %d more, "+
		"and an emulation %d. %d rules have a cell there; the others are about older kernels.\n", len(families), possible, rules, all.ordinary, all.virtual, emulated, withCells)
}

// where describes a set of cells in words, with the axes in the family's order.
func where(f claim.Family, cells claim.Cells) string {
	var all []string
	for _, w := range cells {
		var one []string
		for _, a := range f.Axes {
			if values, named := w[a.Name]; named {
				one = append(one, fmt.Sprintf("`%s=%s`", a.Name, strings.Join(values, "|")))
			}
		}
		all = append(all, strings.Join(one, " "))
	}
	return strings.Join(all, " or ")
}

func renderProfiles(out *strings.Builder) {
	out.WriteString("\n## NAT profiles\n\nThe gateways of the family `profile`. The ceiling is ports/timeout: the most connections per second to " +
		"one destination, unless the gateway takes ports before the timeout.\n\n" +
		"| profile | what it is | ports | conntrack timeout | ceiling | source | assumed |\n|---|---|---|---|---|---|---|\n")
	for _, p := range nat.Profiles() {
		ports, timeout, ceiling := fmt.Sprintf("%d for each address", p.Ports), "not published", "-"
		if p.PerClient {
			ports = fmt.Sprintf("%d for each client", p.Ports)
		}
		if p.Timeout > 0 {
			timeout, ceiling = fmt.Sprintf("%.0f s", p.Timeout.Seconds()), fmt.Sprintf("%.4g/s", p.Ceiling())
		}
		if p.Evicts {
			ceiling += "; none since Linux 6.5"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", p.Name, p.About, ports, timeout, ceiling, p.Source, p.Assumed)
	}
}

func renderFeatures(out *strings.Builder) {
	out.WriteString("\n## Features of kernels\n\n| feature | what it is | mainline kernels | probe | source |\n|---|---|---|---|---|\n")
	for _, f := range kernel.Features() {
		var spans []string
		for _, s := range f.In {
			spans = append(spans, s.String())
		}
		probe := f.Probe.String()
		switch {
		case f.Probe.Kind != kernel.NoProbe:
		case f.OfGuests:
			spans, probe = []string{"any"}, "whether each node is a guest (`--kernel ROLE=`)"
		case f.Settled != (kernel.Release{}):
			probe = fmt.Sprintf("before %v tried on a guest, else release", f.Settled)
		default:
			probe = "release"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", f.Feature, f.Means, strings.Join(spans, "; "), probe, f.Source)
	}
}

func renderCounters(out *strings.Builder) {
	out.WriteString("\n## Counters\n\nThe kernel has these counters for each network namespace, in /proc/net/snmp, /proc/net/netstat " +
		"and /proc/net/stat/nf_conntrack. Rules name a counter with its role, such as `balancer TcpExt.ListenDrops`, and give its increase.\n\n" +
		"| counter | what it counts | mainline kernels |\n|---|---|---|\n")
	for _, c := range kernel.KnownCounters() {
		kernels := "all"
		if c.In != (kernel.Span{}) {
			kernels = c.In.String()
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", c.Name, c.Means, kernels)
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
