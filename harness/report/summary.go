package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"twlab/harness/recording"
)

// Summary writes the runs as Markdown, for a mail or an issue: a table of all scenarios, and
// for each what was expected and what was seen; the files themselves, and the program.
func Summary(to io.Writer, runs []Run) error {
	var b strings.Builder
	good, all := 0, 0
	for _, run := range runs {
		for _, r := range run.Recordings {
			all++
			if r.Conclusion() == recording.AsExpected {
				good++
			}
		}
	}
	fmt.Fprintf(&b, "# twlab: %d of %d as expected\n\n| scenario | outcome | kernel |\n|---|---|---|\n", good, all)
	for _, run := range runs {
		for _, r := range run.Recordings {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", mark(r.Scenario), r.Conclusion(), mark(strings.TrimSpace(run.Kernel+" "+KernelsOf(r))))
		}
		if run.Problem != "" {
			fmt.Fprintf(&b, "| others | %s | %s |\n", mark(run.Problem), mark(run.Kernel))
		}
	}
	for _, run := range runs {
		for _, r := range run.Recordings {
			section(&b, run, r)
		}
	}
	files(&b, runs)
	_, err := io.WriteString(to, b.String())
	return err
}

// section writes one scenario.
func section(b *strings.Builder, run Run, r recording.Recording) {
	title := r.Scenario
	if run.Kernel != "" {
		title += " on " + run.Kernel
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", mark(title), mark(conclusion(r)))
	if p := r.Problem(); p != "" {
		fmt.Fprintf(b, "\n%s\n", mark(p))
	}
	if slices.ContainsFunc(r.Steps, func(s recording.Step) bool { return len(s.Findings) > 0 }) {
		b.WriteString("\n| step | asked | expected | seen | |\n|---|---|---|---|---|\n")
	}
	for _, s := range r.Steps {
		for _, f := range s.Findings {
			met := ""
			if !f.Met {
				met = "**no**"
			}
			fmt.Fprintf(b, "| %d %s | %s | %s | %s | %s |\n", s.Number, mark(s.What), mark(f.What), mark(f.Wanted), mark(f.Seen), met)
		}
	}
	var text strings.Builder
	if err := Text(&text, r); err == nil && r.Conclusion() != recording.AsExpected { // a buffer takes everything
		b.WriteString("\n" + fenced("", text.String()))
	}
}

// files writes the files, each once, and what ran them.
func files(b *strings.Builder, runs []Run) {
	var names, programs []string
	for _, run := range runs {
		for _, r := range run.Recordings {
			if !slices.Contains(programs, r.By) {
				programs = append(programs, r.By)
			}
			if slices.Contains(names, r.File.Name+r.File.Text) {
				continue
			}
			names = append(names, r.File.Name+r.File.Text)
			fmt.Fprintf(b, "\n## %s\n\n%s", mark(r.File.Name), fenced("yaml", r.File.Text))
		}
	}
	for _, p := range programs {
		fmt.Fprintf(b, "\nRun by %s.\n", mark(p))
	}
}

// fenced is a block of text that nothing in it can end.
func fenced(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	var b strings.Builder
	b.WriteString(fence + language + "\n")
	for line := range strings.Lines(text) {
		b.WriteString(strings.ReplaceAll(Plain(strings.TrimRight(line, "\r\n")), `\x09`, "\t") + "\n")
	}
	return b.String() + fence + "\n"
}

// marks are the characters that mean something to Markdown or HTML.
var marks = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "#", `\#`, "<", "&lt;", ">", "&gt;", "&", "&amp;",
)

// mark makes a text one line that means nothing to Markdown.
func mark(text string) string { return marks.Replace(Plain(text)) }
