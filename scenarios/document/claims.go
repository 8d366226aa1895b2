package document

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/scenarios"
	"twlab/scenarios/claim"
)

// Mark is the verdict on a sentence of the document.
type Mark string

// The marks.
const (
	Right     Mark = "right"
	Imprecise Mark = "imprecise" // true in part, or only under conditions that it does not name
	Wrong     Mark = "wrong"
	Dated     Mark = "dated" // about kernels that are no longer in use
	// Question marks a question that the document leaves open; Truth is the answer.
	Question Mark = "question"
)

// Claim is a sentence of the document, and what is true.
type Claim struct {
	// Chinese is the document's own wording; empty where it says nothing.
	Chinese string
	// English is the same in English, or the question that the document leaves open.
	English string
	Mark    Mark
	// Short is what is true in one sentence; Truth is all of it, Since on which kernels.
	Short, Truth, Since string
	// Shown is what proves Short to who has a minute.
	Shown Shown
	// Symptom is the entry of SYMPTOMS.md that says what to do; empty where there is nothing
	// to be done.
	Symptom string
	// Rules are the names of the rules whose cells prove it. A name that ends in
	// "*" means all rules whose names begin with the part before it.
	Rules []string
}

// Shown is one piece of evidence, and a way to see it.
type Shown struct {
	// Rule has cells in an ordinary run, and wants the Evidence among others.
	Rule     string
	Evidence []string
	// File is a scenario below scenarios that shows one connection; it may be empty.
	File string
}

// seen is what the rule wants of the evidence, with what that means, and the packets where the
// rule says so much of them.
func (s Shown) seen() (string, error) {
	f, r, err := ruleOf(s.Rule)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range s.Evidence {
		e, err := wanted(r, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "- `%s`: %s\n", e, meaning(f, name))
	}
	if cause := causeOf(f, r); r.Cause != "" {
		fmt.Fprintf(&out, "- %s\n", cause)
	}
	out.WriteString(ladder(r))
	return out.String(), nil
}

// ruleOf finds a rule by its name, and its family.
func ruleOf(name string) (claim.Family, claim.Rule, error) {
	for _, f := range scenarios.Families() {
		for _, r := range f.Rules {
			if r.Name == name {
				return f.Family, r, nil
			}
		}
	}
	return claim.Family{}, claim.Rule{}, fmt.Errorf("no rule %q", name)
}

// wanted is what a rule wants of one kind of evidence.
func wanted(r claim.Rule, what string) (claim.Expectation, error) {
	i := slices.IndexFunc(r.Want, func(e claim.Expectation) bool { return e.What == what })
	if i < 0 {
		return claim.Expectation{}, fmt.Errorf("rule %s wants nothing of %q", r.Name, what)
	}
	return r.Want[i], nil
}

// meaning is what a piece of evidence is: the driver's own, or a counter of a role.
func meaning(f claim.Family, what string) string {
	for _, e := range f.Evidence {
		if e.Name == what {
			return e.Means
		}
	}
	_, counter, _ := strings.Cut(what, " ")
	for _, c := range kernel.KnownCounters() {
		if c.Name == counter {
			return c.Means
		}
	}
	return "a counter of the kernel"
}

// ladder draws the packets of an attempt that the client's RST has saved: each line is one, from
// the left or from the right.
func ladder(r claim.Rule) string {
	answers, noAnswers := wanted(r, "answers")
	reset, noReset := wanted(r, "reset")
	if noAnswers != nil || noReset != nil || reset.Wanted() != "reached" || len(answers.OneOf) != 1 {
		return ""
	}
	const wide = 31 // of a dashed line and an answer
	var out strings.Builder
	out.WriteString("\n```\n client                            balancer\n")
	for answer := range strings.SplitSeq(answers.OneOf[0], ", ") {
		fmt.Fprintf(&out, "    | SYN ----------------------------> |\n    | <%s %s |\n", strings.Repeat("-", wide-len(answer)), answer)
		if answer == "ACK" {
			out.WriteString("    | RST ----------------------------> |   which ends the old connection\n")
		}
	}
	out.WriteString("```\n")
	return out.String()
}

// beginning is the first word of the text about the claim.
func (c Claim) beginning() string {
	if c.Mark == Question {
		return "answer"
	}
	return string(c.Mark)
}

// Proofs are the rules whose cells prove it.
func (c Claim) Proofs() []claim.Rule {
	var rules []claim.Rule
	for _, f := range scenarios.Families() {
		for _, r := range f.Rules {
			if slices.ContainsFunc(c.Rules, func(pattern string) bool {
				prefix, group := strings.CutSuffix(pattern, "*")
				return r.Name == pattern || group && strings.HasPrefix(r.Name, prefix)
			}) {
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// RenderClaims writes CLAIMS.md: each sentence of the document, what is true of it, one piece
// of evidence, and the command that shows it.
func RenderClaims(to io.Writer) error {
	var out strings.Builder
	tried, emulated := triedByRule(), emulatedByRule()
	out.WriteString(claimsIntroduction)
	fmt.Fprintf(&out, "\n| | the document says | mark | in short |\n|---|---|---|---|\n")
	number := 0
	for _, section := range Document() {
		for _, c := range section.Claims {
			number++
			fmt.Fprintf(&out, "| [%d](#%d) | %s | %s | %s |\n", number, number, c.English, c.Mark, c.Short)
		}
	}
	number = 0
	for _, section := range Document() {
		fmt.Fprintf(&out, "\n## %s\n", section.Title)
		for _, c := range section.Claims {
			number++
			if err := renderClaim(&out, number, c, tried, emulated); err != nil {
				return fmt.Errorf("claim %d: %w", number, err)
			}
		}
	}
	_, err := io.WriteString(to, out.String())
	return err
}

func renderClaim(out *strings.Builder, number int, c Claim, tried map[string]trials, emulated map[string]int) error {
	fmt.Fprintf(out, "\n### %d\n\n", number)
	if c.Chinese != "" {
		fmt.Fprintf(out, "> %s\n>\n> *%s*\n\n", c.Chinese, c.English)
	} else {
		fmt.Fprintf(out, "*%s*\n\n", c.English)
	}
	seen, err := c.Shown.seen()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "**%s: %s**\n\n%s\n\n", capital(c.beginning()), c.Short, c.Truth)
	fmt.Fprintf(out, "Every run sees, in %s of rule [`%s`](RULES.md#%s):\n\n%s\n", count(tried[c.Shown.Rule].ordinary, "cell"), c.Shown.Rule, c.Shown.Rule, seen)
	fmt.Fprintf(out, "- Kernels: %s\n", c.Since)
	fmt.Fprintf(out, "- See it: `hack/e2e --label-filter 'rule:%s'`", c.Shown.Rule)
	if c.Shown.File != "" {
		fmt.Fprintf(out, ", or one connection, step by step and with its cause, `hack/twlab run scenarios/%s`", c.Shown.File)
	}
	out.WriteString("\n")
	standIns := 0
	for _, r := range c.Proofs() {
		if tried[r.Name] == (trials{}) {
			standIns += emulated[r.Name]
		}
	}
	if standIns > 0 {
		out.WriteString("- Without an old kernel, an emulation, which proves nothing about any kernel: `hack/e2e --label-filter 'emulated && !slow'`\n")
	}
	fmt.Fprintf(out, "- All proofs: [%s](RULES.md#claim-%d)", count(len(c.Proofs()), "rule"), number)
	if c.Symptom != "" {
		fmt.Fprintf(out, ". What to do about it: [by symptom](SYMPTOMS.md#%s)", c.Symptom)
	}
	out.WriteString("\n")
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

const claimsIntroduction = `<!-- Generated from scenarios/*/*.go by go test ./scenarios/document -update. Edit those. -->

# What the document says, and what the kernel does

*The document* is a cloud vendor's advice on clients with too many connections in TIME_WAIT behind a HAProxy load balancer
(「客户端 timewait 过多解决方案」, 2021). This page quotes each of its sentences about sysctls, TIME_WAIT, NAT, SYNs and
remedies, and says what is true, since which kernel, what shows it, and by which command. The rules behind it are in
[RULES.md](RULES.md): tests try them on the running kernel, and fail if it does something else. What one sees in production, and
what to do about it, is in [SYMPTOMS.md](SYMPTOMS.md).

Words: a *five-tuple* is the protocol, both addresses and both ports. The *balancer* is the host in the place of HAProxy, the
*gateway* is the NAT in front of the *client*. A *cell* is one combination of settings, in which a rule is tried.

Marks: **right**; **imprecise** (true in part, or only under conditions that the document does not name); **wrong**; **dated** (about
kernels that are no longer in use); **question** (the document leaves it open, and this file answers it).
`

// ProvedBy are the claims that a rule proves.
func ProvedBy(rule string) (all []Claim) {
	for _, s := range Document() {
		for _, c := range s.Claims {
			if slices.ContainsFunc(c.Proofs(), func(r claim.Rule) bool { return r.Name == rule }) {
				all = append(all, c)
			}
		}
	}
	return all
}
