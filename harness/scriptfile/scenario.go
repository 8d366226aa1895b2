package scriptfile

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// Keys lists all keys of the format, in the order of the documents.
func Keys() (all []Key) {
	r := &reader{keys: &all, mistakes: &MistakesError{}}
	r.scenario(nil)
	return all
}

// params reads the parameters, before anything can use them.
func (r *reader) params(root *yaml.Node) (all []param) {
	r.used = map[string]bool{}
	if root.Kind != yaml.MappingNode {
		r.wrong(root, "a scenario is \"key: value\" pairs: name, topology, steps")
		return nil
	}
	if len(root.Content) == 0 || root.Content[0].Value != "twlab" {
		r.wrong(root, "the first key is \"twlab: %d\", the version of the format", Version)
		return nil
	}
	if root.Content[1].Value != "1" {
		r.wrong(root.Content[1], "version %q of the format: this program reads %d", root.Content[1].Value, Version)
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "params" {
			continue
		}
		r.entries(root.Content[i+1], "params", func(key, val *yaml.Node) {
			p := param{name: key.Value, key: key}
			if !namePattern.MatchString(p.name) {
				r.wrong(key, "%q: a parameter has letters, digits, - and _, and begins with a letter", p.name)
			}
			r.list(val, "the values of "+p.name, false, func(_ int, one *yaml.Node) {
				if one.Kind != yaml.ScalarNode {
					r.wrong(one, "want a text, a number, true or false")
					return
				}
				p.values = append(p.values, one.Value)
			})
			all = append(all, p)
		})
	}
	return all
}

// twin is a scenario with other values.
type twin struct {
	name   string
	values map[string]string
	when   script.Condition
	at     place // of when
}

// twins reads the other values. A parameter that a twin does not name has its first value.
func (r *reader) twins(root *yaml.Node, params []param) (all []twin) {
	n := child(root, "twins")
	if n == nil {
		return nil
	}
	r.entries(n, "twins", func(key, val *yaml.Node) {
		t := twin{name: key.Value, values: map[string]string{}}
		for _, p := range params {
			if len(p.values) > 0 {
				t.values[p.name] = p.values[0]
			}
		}
		r.entries(val, "the twin "+key.Value, func(name, value *yaml.Node) {
			if name.Value == twinWhen {
				t.at = place{name, value}
				kernels(&t.when).read(r, value)
				return
			}
			if _, known := t.values[name.Value]; !known {
				r.wrong(name, "no parameter %q: a twin turns the value of one", name.Value)
			}
			if value.Kind != yaml.ScalarNode {
				r.wrong(value, "want a text, a number, true or false")
			}
			t.values[name.Value] = value.Value
		})
		all = append(all, t)
	})
	return all
}

// twinWhen is the key of a twin that is no parameter.
const twinWhen = "when"

// twinKeys lists the keys of a twin beside the parameters.
func (r *reader) twinKeys(n *yaml.Node) {
	if n != nil {
		return // twins reads them
	}
	var when script.Condition
	r.below("NAME", place{}, func() {
		r.mapping(nil, "a twin", []field{{twinWhen, "Where something can be different with these values.", kernels(&when)}})
	})
}

// scenario reads the whole file.
func (r *reader) scenario(root *yaml.Node) (s script.Scenario) {
	r.complete = true
	before := len(r.mistakes.All)
	t := &topology{reader: r, scenario: &s}
	there := r.mapping(root, "a scenario", r.scenarioFields(&s, t))
	if r.keys != nil {
		return s
	}
	for _, key := range []string{"name", "topology", "steps"} {
		if there[key] == nil {
			r.wrong(root, "a scenario needs %q", key)
		}
	}
	if r.complete = r.complete && len(r.mistakes.All) == before; r.complete {
		r.resolveSteps(&s)
	}
	return s
}

// scenarioFields are the fields of a file. What a scenario has the values of, params and twins,
// are not written.
func (r *reader) scenarioFields(s *script.Scenario, t *topology) []field {
	text1 := strconv.Itoa(Version)
	version := words(&text1, text1)
	ignore := func(*reader, *yaml.Node) {}
	nothingToWrite := func() *yaml.Node { return nil }
	return []field{
		{"twlab", "The version of the format, as the first key.", version},
		{"name", "What happens, in a few words.", text(&s.Name)},
		{"belief", "What people think, in a sentence.", text(&s.Belief)},
		{"truth", "What is the case, in a sentence or two.", text(&s.Truth)},
		{"sources", "Addresses of reports.", value{"list of addresses", listOf(sourceForm), func(r *reader, n *yaml.Node) { r.sources(n, &s.Sources) },
			func() *yaml.Node { return listNode(s.Sources, scalarNode) }}},
		{"when", "Where the scenario can be run; elsewhere it says that it cannot.", kernels(&s.When)},
		{"params", "Values of parameters; each combination is a scenario of its own. ${NAME} stands for a whole value.",
			value{"lists of values by name", namesOf(listOf(anyText)), ignore, nothingToWrite}},
		{"twins", "Other values of parameters, with which something must not be as expected.",
			value{"values of parameters by name", namesOf(mapping), (*reader).twinKeys, nothingToWrite}},
		{"topology", "The network: clients, gateway, balancer and servers, or nodes and links.", value{"mapping", mapping, t.read, func() *yaml.Node { return mappingNode(t.fields()) }}},
		{"steps", "What is done, one step after the other.", value{"list of steps", listOf(mapping), func(r *reader, n *yaml.Node) { r.steps(n, &s.Steps) },
			func() *yaml.Node { return listNode(s.Steps, r.stepNode) }}},
	}
}

func (r *reader) sources(n *yaml.Node, to *[]string) {
	if n == nil {
		return
	}
	r.list(n, "sources", false, func(_ int, one *yaml.Node) {
		t, ok := r.scalar(one, "an address")
		if ok && !strings.HasPrefix(t, "https://") && !strings.HasPrefix(t, "http://") {
			r.wrong(one, "%q: want an address that begins with https://", t)
		}
		*to = append(*to, t)
	})
}

// unusedNames finds addresses that nothing but their declaration names.
func (r *reader) unusedNames(root *yaml.Node, text string) {
	addresses := child(child(root, "topology"), "addresses")
	if addresses == nil || addresses.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(addresses.Content); i += 2 {
		name := addresses.Content[i]
		if mentions := regexp.MustCompile(`\b`+regexp.QuoteMeta(name.Value)+`\b`).FindAllString(text, 2); len(mentions) < 2 {
			r.wrong(name, "nothing names the address %q", name.Value)
		}
	}
}

// child is the value of a key of a mapping; nil without it.
func child(of *yaml.Node, key string) *yaml.Node {
	if of == nil || of.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(of.Content); i += 2 {
		if of.Content[i].Value == key {
			return of.Content[i+1]
		}
	}
	return nil
}
