package scenarios

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/lab"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Question is a cell that a user asks about.
type Question struct {
	// Number is its place in the file, from 1 on.
	Number int
	// Name is what the asker calls it.
	Name   string
	Family situation.Family
	Cell   claim.Cell
}

// Rule finds the rule that predicts the answer. No rule is about sysctls that are not axes of
// the family: if there are any, covered is false, reservation names them, and the rule is
// that of the cell without them.
func (q Question) Rule(k claim.Kernels) (rule claim.Rule, covered bool, reservation string) {
	rule, covered = q.Family.Rule(q.Cell, k)
	if !covered {
		return rule, false, "no rule for this cell on this kernel"
	}
	var beyond []string
	for _, s := range q.Cell.Extra {
		if !slices.ContainsFunc(topo.Baseline, func(b lab.Setting) bool { return b.Name == s.Name && b.Value == s.Value }) {
			beyond = append(beyond, fmt.Sprintf("%s=%s on the %s", s.Name, s.Value, s.Role))
		}
	}
	if len(beyond) > 0 {
		return rule, false, "the rule is not about " + strings.Join(beyond, ", ")
	}
	return rule, true, ""
}

// Title is the family and its cell, with the values that are set in the lab.
func (q Question) Title() string { return q.Family.Name + " " + q.Family.Describe(q.Cell) }

// Answered is the answer to a question, as data for a program that compares several runs.
type Answered struct {
	// Number, Name and Title are the question's.
	Number int    `json:"number"`
	Name   string `json:"name"`
	Title  string `json:"title"`
	// Covered tells whether a rule predicts the answer.
	Covered bool `json:"covered"`
	// Result is nil if the situation could not be created.
	Result *claim.Result `json:"result,omitempty"`
}

// Outcome is the answer in a word or two: the outcome of the attempt or, in a family without
// one, the first value that was seen; and WRONG if a rule predicts something else.
func (a Answered) Outcome() string {
	if a.Result == nil {
		return "FAILED"
	}
	text := a.Result.Outcome()
	if a.Covered && !a.Result.Agrees() {
		text += " WRONG"
	}
	return text
}

// ReadQuestions reads cells from YAML: a list of mappings with
//
//	name: any name (optional)
//	family: tuple
//	axes:                 # axes that are left out have their usual value
//	  clock: older
//	sysctls:              # of any role; the sysctl of an axis sets that axis
//	  client: {net.ipv4.tcp_timestamps: 1}
//	  balancer: {net.ipv4.tcp_rfc1337: 1}
//
// The error lists everything that is wrong, each with its line.
func ReadQuestions(from io.Reader) ([]Question, error) {
	var document, more yaml.Node
	decoder := yaml.NewDecoder(from)
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0:
		return nil, errors.New("no cells: the file is empty")
	case err != nil:
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: a second document begins; want one list of cells", more.Line)
	}
	list := document.Content[0]
	if list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: want a list of cells, each beginning with \"- family: NAME\"", list.Line)
	}
	var (
		questions []Question
		errs      []error
	)
	for i, entry := range list.Content {
		r := reader{}
		q := r.question(entry)
		q.Number = i + 1
		if q.Name == "" {
			q.Name = fmt.Sprintf("cell %d", i+1)
		}
		questions = append(questions, q)
		errs = append(errs, r.errs...)
	}
	if len(questions) == 0 {
		errs = append(errs, fmt.Errorf("line %d: no cells in the list", list.Line))
	}
	return questions, errors.Join(errs...)
}

// reader reads one cell and notes what is wrong with it.
type reader struct{ errs []error }

func (r *reader) wrong(at *yaml.Node, err error) {
	r.errs = append(r.errs, fmt.Errorf("line %d: %w", at.Line, err))
}

// entries lists the keys and values of a mapping.
func (r *reader) entries(of *yaml.Node, what string) (keys, values []*yaml.Node) {
	if of == nil {
		return nil, nil
	}
	if of.Kind != yaml.MappingNode {
		r.wrong(of, fmt.Errorf("%s: want \"key: value\" pairs", what))
		return nil, nil
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(of.Content); i += 2 {
		if key := of.Content[i]; seen[key.Value] {
			r.wrong(key, fmt.Errorf("%q is given twice", key.Value))
		} else {
			seen[key.Value] = true
			keys, values = append(keys, key), append(values, of.Content[i+1])
		}
	}
	return keys, values
}

func (r *reader) question(entry *yaml.Node) (q Question) {
	parts := map[string]*yaml.Node{}
	keys, values := r.entries(entry, "a cell")
	for i, key := range keys {
		switch key.Value {
		case "name", "family", "axes", "sysctls":
			parts[key.Value] = values[i]
		default:
			r.wrong(key, fmt.Errorf("unknown key %q: want name, family, axes or sysctls", key.Value))
		}
	}
	if name := parts["name"]; name != nil {
		q.Name = name.Value
	}
	family := parts["family"]
	if family == nil {
		r.wrong(entry, fmt.Errorf("a cell without family: want one of %s", familyNames()))
		return q
	}
	i := slices.IndexFunc(Families(), func(f situation.Family) bool { return f.Name == family.Value })
	if i < 0 {
		r.wrong(family, fmt.Errorf("no family %q: want one of %s", family.Value, familyNames()))
		return q
	}
	q.Family = Families()[i]
	q.Cell = q.Family.Usual()
	chosen := map[string]*yaml.Node{}
	r.axes(&q, parts["axes"], chosen)
	r.sysctls(&q, parts["sysctls"], chosen)
	if because, possible := q.Family.Possible(q.Cell); !possible && len(r.errs) == 0 {
		r.wrong(entry, fmt.Errorf("this cell is impossible: %s (%s)", because, q.Family.Describe(q.Cell)))
	}
	return q
}

func familyNames() string {
	var names []string
	for _, f := range Families() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

func (r *reader) axes(q *Question, node *yaml.Node, chosen map[string]*yaml.Node) {
	keys, values := r.entries(node, "axes")
	for i, key := range keys {
		axis, found := q.Family.Axis(key.Value)
		switch {
		case !found:
			r.wrong(key, fmt.Errorf("family %s has no axis %q: want one of %s", q.Family.Name, key.Value,
				strings.Join(slices.Sorted(maps.Keys(q.Cell.Values)), ", ")))
		case !axis.Takes(values[i].Value):
			r.wrong(values[i], fmt.Errorf("axis %s has no value %q: want %s", axis.Name, values[i].Value, axis.Choice()))
		default:
			q.Cell.Values[axis.Name] = values[i].Value
			chosen[axis.Name] = key
		}
	}
}

func (r *reader) sysctls(q *Question, node *yaml.Node, chosen map[string]*yaml.Node) {
	topology := q.Family.Topology(q.Cell)
	roles, settings := r.entries(node, "sysctls")
	for i, role := range roles {
		names, values := r.entries(settings[i], "sysctls of "+role.Value)
		for j, name := range names {
			setting := lab.Setting{Role: lab.Role(role.Value), Name: name.Value, Value: values[j].Value}
			trial := topology
			trial.Sysctls = lab.Settings{setting}
			if err := trial.Validate(); err != nil {
				r.wrong(name, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", "; ")))
				continue
			}
			if value, needed := own(q.Family, topology, setting); needed {
				r.wrong(name, fmt.Errorf("family %s sets %s=%s itself and depends on it: leave it out, or use hack/twlab load, which takes any number",
					q.Family.Name, setting.Name, value))
				continue
			}
			r.set(q, setting, name, chosen)
		}
	}
}

// own is the value that the family itself gives a sysctl, if its driver depends on it.
func own(f situation.Family, t lab.Topology, s lab.Setting) (value string, needed bool) {
	if !slices.ContainsFunc(f.Needs, func(k claim.RoleSysctl) bool { return k.Sets(s) }) {
		return "", false
	}
	for _, set := range t.Sysctls {
		if set.Role == s.Role && set.Name == s.Name {
			value, needed = set.Value, true
		}
	}
	return value, needed && value != s.Value
}

// set applies a sysctl: as the value of its axis, or as an extra if it is not an axis.
func (r *reader) set(q *Question, s lab.Setting, at *yaml.Node, chosen map[string]*yaml.Node) {
	i := slices.IndexFunc(q.Family.Axes, func(a claim.Axis) bool { return a.Sysctl.Sets(s) })
	if i < 0 || !slices.Contains(q.Family.Axes[i].Values, s.Value) {
		q.Cell.Extra = append(q.Cell.Extra, s)
		return
	}
	axis := q.Family.Axes[i].Name
	if other := chosen[axis]; other != nil && q.Cell.Values[axis] != s.Value {
		r.wrong(at, fmt.Errorf("%s=%s contradicts %s: %s above", s.Name, s.Value, axis, q.Cell.Values[axis]))
		return
	}
	q.Cell.Values[axis] = s.Value
}
