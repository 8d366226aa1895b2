package symptoms

import (
	"fmt"
	"io"
	"path"
	"strings"
)

const introduction = `<!-- Generated from scenarios/symptoms/*.go by go test ./scenarios/symptoms -update. Edit those. -->

# By symptom

What you see, who can do that, how to tell them apart, and what to do, best first. *Server* is who accepts: the balancer, or a server
behind it. Each line has a link to a rule, a cause or a scenario file that shows it; a rule runs by
` + "`hack/e2e --label-filter 'rule:NAME'`, a file by `hack/twlab run FILE`" + `. Causes and how they are proved are in [CAUSES.md](CAUSES.md), public
reports in [INCIDENTS.md](INCIDENTS.md). Where no kernels are named, it is all of them. Whether a sysctl is safe is [at the end](#safe).

| you see | it is mostly |
|---|---|
`

// Render writes SYMPTOMS.md.
func Render(to io.Writer) error {
	var out strings.Builder
	out.WriteString(introduction)
	for _, s := range All() {
		fmt.Fprintf(&out, "| [%s](#%s) | %s |\n", s.See, s.ID, s.mostly())
	}
	for _, s := range All() {
		fmt.Fprintf(&out, "\n## <a id=\"%s\"></a>%s\n\n%s\n\n| who | how to tell | kernels | shown by |\n|---|---|---|---|\n", s.ID, s.See, s.Means)
		for _, suspect := range s.Suspects {
			fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", suspect.Who, suspect.Tell, suspect.Kernels, links(suspect.Shown))
		}
		out.WriteString("\nWhat to do, best first:\n\n")
		for i, do := range s.Do {
			fmt.Fprintf(&out, "%d. %s\n", i+1, do)
		}
		fmt.Fprintf(&out, "\nHow often: %s\n", s.Often)
	}
	out.WriteString("\n## <a id=\"safe\"></a>Is it safe?\n\n| sysctl | safe? | shown by |\n|---|---|---|\n")
	for _, k := range Knobs() {
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", k.Sysctl, k.Safe, links(k.Shown))
	}
	out.WriteString("\nA whole file, line by line, for a role and a kernel: `hack/twlab lint --role balancer --kernel 5.10 /etc/sysctl.conf`\n")
	_, err := io.WriteString(to, out.String())
	return err
}

// mostly names the first suspects.
func (s Symptom) mostly() string {
	const named = 4
	var who []string
	for _, suspect := range s.Suspects[:min(named, len(s.Suspects))] {
		who = append(who, suspect.Who)
	}
	if more := len(s.Suspects) - named; more > 0 {
		who = append(who, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(who, "; ")
}

func links(proofs []Proof) string {
	all := make([]string, 0, len(proofs))
	for _, p := range proofs {
		all = append(all, p.link())
	}
	return strings.Join(all, ", ")
}

// link is the proof as Markdown, seen from SYMPTOMS.md.
func (p Proof) link() string {
	switch {
	case p.Rule != "":
		return fmt.Sprintf("[%s](RULES.md#%[1]s)", p.Rule)
	case p.Cause != "":
		return fmt.Sprintf("[%s](CAUSES.md#%[1]s)", p.Cause)
	default:
		return fmt.Sprintf("[%s](%s)", strings.TrimSuffix(path.Base(p.File), ".yaml"), p.File)
	}
}
