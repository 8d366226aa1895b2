package scriptfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/nearest"
	"twlab/harness/script"
)

// place is where something is in the file.
type place struct{ key, value *yaml.Node }

// reader reads one variant of a scenario.
type reader struct {
	mistakes *MistakesError
	path     []string
	at       map[string]place  // by path, as script.Problem has it
	values   map[string]string // of the parameters
	used     map[string]bool   // parameters
	complete bool              // whether everything was read, so that it can be checked
	keys     *[]Key            // not nil where keys are listed and nothing is read
}

// Key is a key of the format.
type Key struct {
	// Path leads to it: "steps.connect.from".
	Path string
	// Takes says what its value is: "text", "duration".
	Takes string
	Means string
	form  form
}

// field is a key of a mapping: what its value is, and how to read it.
type field struct {
	key, means string
	value      value
}

// value reads the value of a field.
type value struct {
	takes string
	form  form
	read  func(r *reader, n *yaml.Node)
}

// wrong notes a mistake.
func (r *reader) wrong(at *yaml.Node, format string, args ...any) { //nolint:forbidigo // as Sprintf has them
	r.mistakes.add(at, format, args...)
}

// problem notes a problem of the scenario where its path leads.
func (r *reader) problem(p script.Problem) {
	for n := len(p.Path); n > 0; n-- {
		found, there := r.at[strings.Join(p.Path[:n], ".")]
		if !there {
			continue
		}
		at := found.value
		if at.Kind != yaml.ScalarNode || at.Value == "" {
			at = found.key
		}
		r.wrong(at, "%s", p.Text)
		return
	}
	r.mistakes.All = append(r.mistakes.All, Mistake{Line: 1, Column: 1, Text: p.Text})
}

// below reads one key further down.
func (r *reader) below(key string, at place, read func()) {
	before := r.path
	r.path = append(slices.Clone(before), key)
	if r.at != nil {
		r.at[strings.Join(r.path, ".")] = at
	}
	read()
	r.path = before
}

// mapping reads a mapping with these fields, and returns the keys that are there.
func (r *reader) mapping(n *yaml.Node, what string, fields []field) (there map[string]*yaml.Node) {
	if r.keys != nil {
		for _, f := range fields {
			r.below(f.key, place{}, func() {
				*r.keys = append(*r.keys, Key{strings.Join(r.path, "."), f.value.takes, f.means, f.value.form})
				f.value.read(r, nil)
			})
		}
		return nil
	}
	there = map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s: want \"key: value\" pairs", what)
		return there
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		switch {
		case at < 0:
			r.unknown(key, what, fields)
		case there[key.Value] != nil:
			r.wrong(key, "%q is given twice", key.Value)
		case val.Kind == yaml.ScalarNode && val.Value == "" && val.ShortTag() == "!!null":
			r.wrong(key, "%q has no value", key.Value)
		default:
			there[key.Value] = key
			r.below(key.Value, place{key, val}, func() { fields[at].value.read(r, val) })
		}
	}
	return there
}

// elsewhere are keys that people put where they do not belong.
var elsewhere = map[string]string{
	"links": "topology", "nodes": "topology", "addresses": "topology", "clients": "topology", "gateway": "topology", "balancer": "topology",
	"servers": "topology", "ip": "topology", "expect": "a step", "when": "a step or an expectation",
	"sysctls": "a node", "rules": "a node, or an expectation", "sources": "the scenario itself",
}

// unknown says that there is no such key.
func (r *reader) unknown(key *yaml.Node, what string, fields []field) {
	var names []string
	for _, f := range fields {
		names = append(names, f.key)
	}
	text := fmt.Sprintf("unknown key %q in %s", key.Value, what)
	switch near := nearest.To(key.Value, names); {
	case len(near) > 0:
		text += fmt.Sprintf("; did you mean %q?", near[0])
	case elsewhere[key.Value] != "":
		text += "; it belongs to " + elsewhere[key.Value]
	default:
		text += ": there are " + strings.Join(names, ", ")
	}
	r.wrong(key, "%s", text)
}

// entries goes through a mapping whose keys are names.
func (r *reader) entries(n *yaml.Node, what string, read func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s: want \"name: value\" pairs", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			r.wrong(key, "%q is given twice", key.Value)
			continue
		}
		seen[key.Value] = true
		r.below(key.Value, place{key, val}, func() { read(key, val) })
	}
}

// list goes through a list; a single value is a list of one if it may be.
func (r *reader) list(n *yaml.Node, what string, single bool, read func(i int, n *yaml.Node)) {
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		r.wrong(n, "%s: the list is empty", what)
	case n.Kind == yaml.SequenceNode:
		for i, one := range n.Content {
			if len(n.Content) == 1 && single {
				read(0, one)
				continue
			}
			r.below(strconv.Itoa(i), place{one, one}, func() { read(i, one) })
		}
	case single:
		read(0, n)
	default:
		r.wrong(n, "%s: want a list, \"- one\" on a line each or [one, two]", what)
	}
}

// scalar returns the text of a value, after the parameters; ok is false if it is none.
func (r *reader) scalar(n *yaml.Node, want string) (text string, ok bool) {
	if n.Kind != yaml.ScalarNode {
		r.wrong(n, "want %s", want)
		return "", false
	}
	text = n.Value
	name, isParam := strings.CutPrefix(text, "${")
	if !isParam {
		if strings.Contains(text, "${") {
			r.wrong(n, "%q: a parameter stands for a whole value", text)
			return "", false
		}
		return text, true
	}
	name, closed := strings.CutSuffix(name, "}")
	value, known := r.values[name]
	switch {
	case !closed:
		r.wrong(n, "%q: a parameter stands for a whole value", text)
		return "", false
	case !known:
		r.wrong(n, "no parameter %q: %s", name, there(slices.Sorted(maps.Keys(r.values))))
		return "", false
	}
	r.used[name] = true
	return value, true
}

// there lists what there is.
func there(names []string) string {
	if len(names) == 0 {
		return "there are none"
	}
	return "there are " + strings.Join(names, ", ")
}
