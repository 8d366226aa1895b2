package scriptfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Mistake is one thing that is wrong with a file, and where.
type Mistake struct {
	Line, Column, Width int
	Text                string
}

// MistakesError is everything that is wrong with a file.
type MistakesError struct {
	File  string
	All   []Mistake
	lines []string
}

// Error lists all mistakes, each with its line and a mark below its place.
func (m *MistakesError) Error() string {
	var b strings.Builder
	for _, one := range m.All {
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", m.File, one.Line, one.Column, one.Text)
		if one.Line < 1 || one.Line > len(m.lines) {
			continue
		}
		const widest = 120
		line := []rune(visible(strings.TrimRight(m.lines[one.Line-1], "\r")))
		fmt.Fprintf(&b, "%5d | %s\n", one.Line, string(line[:min(len(line), widest)]))
		if at := one.Column - 1; at < min(len(line), widest) {
			width := max(1, min(one.Width, len(line)-at, widest-at))
			fmt.Fprintf(&b, "      | %s%s\n", strings.Repeat(" ", at), strings.Repeat("^", width))
		}
	}
	mistakes := "mistakes"
	if len(m.All) == 1 {
		mistakes = "mistake"
	}
	fmt.Fprintf(&b, "%d %s in %s; nothing was run", len(m.All), mistakes, m.File)
	return b.String()
}

// visible replaces what a terminal would act on.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, text)
}

// sorted returns the mistakes in the order of the file, each once; nil without any.
func (m *MistakesError) sorted() error {
	if len(m.All) == 0 {
		return nil
	}
	slices.SortStableFunc(m.All, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	m.All = slices.Compact(m.All)
	return m
}

// add notes a mistake at a node.
func (m *MistakesError) add(at *yaml.Node, format string, args ...any) { //nolint:forbidigo // as Sprintf has them
	m.All = append(m.All, Mistake{at.Line, at.Column, len([]rune(at.Value)), visible(fmt.Sprintf(format, args...))})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// yaml notes why a text is not YAML.
func (m *MistakesError) yaml(err error) {
	if err == nil || errors.Is(err, io.EOF) {
		m.All = append(m.All, Mistake{Line: 1, Column: 1, Text: "the file is empty: \"twlab new\" writes one to begin with"})
		return
	}
	line, what := 1, err.Error()
	if found := yamlLine.FindStringSubmatch(what); found != nil {
		if n, err := strconv.Atoi(found[1]); err == nil {
			line = n
		}
		what = found[2]
	}
	if strings.Contains(what, "cannot start any token") {
		what += " (a tab? indent by spaces)"
	}
	m.All = append(m.All, Mistake{Line: line, Column: 1, Text: "not YAML: " + what})
}
