package scriptfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// ErrInexpressible means that a scenario has something that files cannot say.
var ErrInexpressible = errors.New("the format of files cannot say this scenario")

// Write writes a scenario as a file, below the remarks, which become comments of a paragraph
// each. The file is read before it is written, by the table that it was made of: what does not
// read back as the same scenario is ErrInexpressible.
func Write(to io.Writer, s script.Scenario, remarks ...string) error {
	r := &reader{mistakes: &MistakesError{}}
	plain, err := unresolved(s)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInexpressible, err)
	}
	t := declared(plain)
	var e emitter
	for i, remark := range remarks {
		if i > 0 {
			e.line("#")
		}
		for _, line := range wrap(visible(remark), lineWidth-2) {
			e.line("# " + line)
		}
	}
	e.file(mappingNode(r.scenarioFields(&plain, t)))
	text := []byte(e.String())
	f, err := Read("scenario.yaml", text)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrInexpressible, err)
	case !reflect.DeepEqual(f.Scenarios, []script.Scenario{s}):
		return fmt.Errorf("%w: it reads back as another one", ErrInexpressible)
	}
	_, err = to.Write(text)
	return err
}

// stepNode writes a step, its verb first.
func (r *reader) stepNode(s script.Step) *yaml.Node {
	applies := true
	return mappingNode(append(r.verbs(&s.Do), r.stepFields(&s, &applies)...))
}

// scalarNode is a text; nil for an empty one.
func scalarNode(text string) *yaml.Node {
	if text == "" {
		return nil
	}
	return textNode(text)
}

// textNode is a text, which may be empty.
func textNode(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// mappingNode has those of the fields that cannot be left out.
func mappingNode(fields []field) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		if val := f.value.write(); val != nil {
			n.Content = append(n.Content, scalarNode(f.key), val)
		}
	}
	return n
}

// unlessEmpty is the node; nil for one without entries.
func unlessEmpty(n *yaml.Node) *yaml.Node {
	if len(n.Content) == 0 {
		return nil
	}
	return n
}

// listNode is a list; nil for an empty one.
func listNode[T any](all []T, node func(T) *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, one := range all {
		n.Content = append(n.Content, node(one))
	}
	return unlessEmpty(n)
}

// oneOrList is a list, or what it has, if that is one thing.
func oneOrList[T any](all []T, node func(T) *yaml.Node) *yaml.Node {
	if len(all) == 1 {
		return node(all[0])
	}
	return listNode(all, node)
}

// namedNodes is a mapping in the order of the list; nil for an empty one.
func namedNodes[T any](all []T, node func(T) (name string, of *yaml.Node)) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, one := range all {
		name, of := node(one)
		n.Content = append(n.Content, scalarNode(name), of)
	}
	return unlessEmpty(n)
}

// namesNode is a mapping in the order of its names.
func namesNode[T any](all map[string]T, node func(T) *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n.Content = append(n.Content, scalarNode(name), node(all[name]))
	}
	return n
}

// lineWidth is after how many characters a line is full.
const lineWidth = 110

// emitter writes nodes as people write files: what fits into a line is in one.
type emitter struct{ strings.Builder }

func (e *emitter) line(text string) { e.WriteString(text + "\n") }

// file writes the whole file. The parts that have structure of their own begin below their key.
func (e *emitter) file(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, val := root.Content[i], root.Content[i+1]
		switch key.Value {
		case "topology":
			e.line(key.Value + ":")
			e.pairs(val, "  ")
		case "steps":
			e.line(key.Value + ":")
			for _, step := range val.Content {
				e.entry(step, "  ")
			}
		default:
			e.pair(key, val, "")
		}
	}
}

// entry writes a mapping as an entry of a list.
func (e *emitter) entry(n *yaml.Node, indent string) {
	var below emitter
	below.pairs(n, indent+"  ")
	e.WriteString(indent + "- " + strings.TrimPrefix(below.String(), indent+"  "))
}

func (e *emitter) pairs(n *yaml.Node, indent string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		e.pair(n.Content[i], n.Content[i+1], indent)
	}
}

// pair writes a key and its value: in a line, or below the key.
func (e *emitter) pair(key, val *yaml.Node, indent string) {
	begin := indent + keyText(key) + ": "
	if line := begin + marshalled(val); val.Kind == yaml.ScalarNode && (len(line) <= lineWidth || !folds(val.Value)) {
		e.line(line)
		return
	}
	if short := begin + flow(val); len(short) <= lineWidth {
		e.line(short)
		return
	}
	switch val.Kind {
	case yaml.ScalarNode:
		e.line(begin + ">-")
		for _, line := range wrap(val.Value, lineWidth-len(indent)-2) {
			e.line(indent + "  " + line)
		}
	case yaml.MappingNode:
		e.line(strings.TrimSuffix(begin, " "))
		e.pairs(val, indent+"  ")
	default:
		e.line(strings.TrimSuffix(begin, " "))
		for _, one := range val.Content {
			if line := indent + "  - " + flow(one); one.Kind != yaml.MappingNode || len(line) <= lineWidth {
				e.line(line)
			} else {
				e.entry(one, indent+"  ")
			}
		}
	}
}

// folds reports whether a text is the same after it was wrapped and folded again.
func folds(text string) bool { return strings.Join(strings.Fields(text), " ") == text }

// wrap breaks a text into lines.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// flow is a node in one line.
func flow(n *yaml.Node) string {
	var parts []string
	switch n.Kind {
	case yaml.MappingNode:
		for pair := range slices.Chunk(n.Content, 2) {
			parts = append(parts, keyText(pair[0])+": "+flow(pair[1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case yaml.SequenceNode:
		for _, one := range n.Content {
			parts = append(parts, flow(one))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return quoted(n.Value)
	}
}

// keyText is a key: in quotes where it has a colon, so that nobody takes that for the key's end.
func keyText(key *yaml.Node) string {
	if strings.Contains(key.Value, ":") && unquoted.MatchString(key.Value) {
		return `"` + key.Value + `"`
	}
	return quoted(key.Value)
}

// unquoted are texts that need no quotes anywhere.
var unquoted = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_./@()-]*(:[a-zA-Z0-9]+)*( [a-zA-Z0-9_./@()-]+)*$`)

// quoted is a text as it stands in a flow: in quotes where it must.
func quoted(text string) string {
	if unquoted.MatchString(text) {
		return text
	}
	written := strings.TrimSuffix(strings.TrimPrefix(marshalled(&yaml.Node{
		Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{textNode(text)},
	}), "["), "]")
	if strings.HasPrefix(written, "'") && !strings.ContainsAny(text, `'"\`) {
		return `"` + text + `"`
	}
	return written
}

// marshalled is a node as the library writes it.
func marshalled(n *yaml.Node) string {
	text, err := yaml.Marshal(n)
	if err != nil {
		return fmt.Sprintf("%q", n.Value) // what reads it will say what is wrong
	}
	return strings.TrimSpace(string(text))
}
