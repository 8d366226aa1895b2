// Package scriptfile reads scenarios from YAML files: strictly, and with every mistake of a
// file at once, each with its line.
package scriptfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// Version is the version of the format that this program reads.
const Version = 1

// The limits of a file. Nothing that a person writes comes near them.
const (
	mostBytes    = 256 << 10
	mostVariants = 64
	mostNodes    = 2000
	mostSteps    = 1000
	mostLinks    = 4000
)

// File is a file that was read.
type File struct {
	Name string
	Text []byte
	// Scenarios are its variants: one, or one for each combination of its params.
	Scenarios []script.Scenario
	// Twins are scenarios with one value turned, in which something must not be as expected:
	// otherwise the expectations prove nothing.
	Twins []script.Scenario
}

// ReadAll reads files; a directory stands for its files that end in .yaml. The error has the
// mistakes of all of them.
func ReadAll(paths []string) (all []File, err error) {
	var errs []error
	for _, path := range paths {
		names, err := filesOf(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, name := range names {
			f, err := readFile(name)
			all, errs = append(all, f), append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// ReadFS reads the scenario files at the root of a file system, in the order of their names.
func ReadFS(from fs.FS) (all []File, err error) {
	names, err := fs.Glob(from, "*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		f, err := Read(name, text)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// filesOf lists the files that a path stands for.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return []string{path}, nil
	}
	names, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s: %w: no file there ends in .yaml", path, fs.ErrNotExist)
	}
	return names, err
}

func readFile(name string) (File, error) {
	f, err := os.Open(name) //nolint:gosec // the user's file
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostBytes+1)) // a device has no size
	if err != nil {
		return File{}, err
	}
	return Read(name, text)
}

// Read reads the text of a file. The error is a *MistakesError.
func Read(name string, text []byte) (File, error) {
	f := File{Name: name, Text: text}
	m := &MistakesError{File: name, lines: strings.Split(string(text), "\n")}
	root := parse(text, m)
	if root == nil {
		return f, m.sorted()
	}
	first := &reader{mistakes: m}
	params := first.params(root)
	if len(m.All) > 0 {
		return f, m.sorted()
	}
	read := func(values map[string]string, name string, own *twin) script.Scenario {
		r := &reader{mistakes: m, at: map[string]place{}, values: values, used: first.used}
		s := r.scenario(root)
		if own != nil && own.when != (script.Condition{}) {
			maps.DeleteFunc(r.at, func(path string, _ place) bool { return strings.HasPrefix(path, twinWhen+".") })
			s.When, r.at[twinWhen] = own.when, own.at
		}
		if s.Name += name; r.complete {
			for _, p := range s.Check() {
				r.problem(p)
			}
		}
		return s
	}
	for _, values := range combine(params, m) {
		f.Scenarios = append(f.Scenarios, read(values, variant(params, values), nil))
	}
	for _, t := range first.twins(root, params) {
		f.Twins = append(f.Twins, read(t.values, " [twin: "+t.name+"]", &t))
	}
	first.unusedNames(root, string(text))
	for _, p := range params {
		if !first.used[p.name] {
			m.add(p.key, "no value says ${%s}, and no \"when\" asks for it", p.name)
		}
	}
	return f, m.sorted()
}

// parse parses the text, and refuses what the format has no use for.
func parse(text []byte, m *MistakesError) *yaml.Node {
	if len(text) > mostBytes {
		m.All = append(m.All, Mistake{Line: 1, Column: 1, Text: fmt.Sprintf("too long: a scenario has at most %d bytes", mostBytes)})
		return nil
	}
	if i := badByte(text); i >= 0 {
		line := 1 + strings.Count(string(text[:i]), "\n")
		m.All = append(m.All, Mistake{Line: line, Column: 1, Text: "this is no text: a byte that is not UTF-8, or a control character"})
		return nil
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var document, more yaml.Node
	if err := decoder.Decode(&document); err != nil || len(document.Content) == 0 {
		m.yaml(err)
		return nil
	}
	root := document.Content[0]
	if err := decoder.Decode(&more); err == nil {
		m.add(&more, "a second document begins: a file has one scenario")
	}
	plain(root, m, 0)
	if len(m.All) > 0 {
		return nil
	}
	return root
}

// badByte finds a byte that no text has; -1 without one.
func badByte(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return i
		}
		i += size
	}
	return -1
}

// plain refuses anchors, aliases, tags and depth.
func plain(n *yaml.Node, m *MistakesError, depth int) {
	const deepest = 12
	switch {
	case depth > deepest:
		m.add(n, "too deep: no value of the format is here")
		return
	case n.Kind == yaml.AliasNode:
		m.add(n, "an alias (*%s): write the value out", n.Value)
		return
	case n.Anchor != "":
		m.add(n, "an anchor (&%s): write the value where it is used", n.Anchor)
	case n.Kind == yaml.ScalarNode && badByte([]byte(n.Value)) >= 0:
		m.add(n, "a control character in a text")
	case n.Style&yaml.TaggedStyle != 0:
		m.add(n, "a tag (%s): the format has none", n.Tag)
	}
	for _, below := range n.Content {
		plain(below, m, depth+1)
	}
}

// param is a parameter with its values.
type param struct {
	name   string
	key    *yaml.Node
	values []string
}

// combine lists all combinations of the values of parameters.
func combine(params []param, m *MistakesError) []map[string]string {
	all := []map[string]string{{}}
	for _, p := range params {
		var next []map[string]string
		for _, before := range all {
			for _, v := range p.values {
				one := map[string]string{p.name: v}
				for name, value := range before {
					one[name] = value
				}
				next = append(next, one)
			}
		}
		if all = next; len(all) > mostVariants {
			m.add(p.key, "more than %d combinations of parameters", mostVariants)
			return nil
		}
	}
	return all
}

// variant is what distinguishes a scenario with these values from those with others.
func variant(params []param, values map[string]string) string {
	var parts []string
	for _, p := range params {
		if len(p.values) > 1 {
			parts = append(parts, p.name+"="+values[p.name])
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " [" + strings.Join(parts, ", ") + "]"
}
