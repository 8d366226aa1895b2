package scriptfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Schema returns a JSON schema (draft 2020-12) of scenario files, for editors: which keys there
// are, what they mean, and what their values look like. It is made of the table that Read reads
// by. What names mean, and how steps belong together, only Read knows.
func Schema() ([]byte, error) {
	root := &schema{
		Draft: "https://json-schema.org/draft/2020-12/schema", Title: "twlab scenario",
		Required: []string{"twlab", "name", "topology", "steps"},
	}
	table := keyTable{}
	for _, k := range Keys() {
		parent, name := "", k.Path
		if i := strings.LastIndex(k.Path, "."); i >= 0 {
			parent, name = k.Path[:i], k.Path[i+1:]
		}
		table[parent] = append(table[parent], namedKey{name, k})
	}
	table.object(root, "")
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// schema is a JSON schema, with the keywords that are used here.
type schema struct {
	Draft       string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Minimum     *int               `json:"minimum,omitempty"`
	Maximum     *int               `json:"maximum,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Names       *schema            `json:"propertyNames,omitempty"`
	// Others is the schema of keys that Properties does not have.
	Others *schema   `json:"additionalProperties,omitempty"`
	Items  *schema   `json:"items,omitempty"`
	AnyOf  []*schema `json:"anyOf,omitempty"`
	OneOf  []*schema `json:"oneOf,omitempty"`
	// Not is set in the schema that nothing matches.
	Not *schema `json:"not,omitempty"`
}

// nothing matches no value.
func nothing() *schema { return &schema{Not: &schema{}} }

// namedKey is a key with the last part of its path.
type namedKey struct {
	name string
	Key
}

// keyTable has the keys below each path.
type keyTable map[string][]namedKey

// object makes a schema that of a mapping of the keys below a path.
func (t keyTable) object(s *schema, path string) {
	s.Type, s.Properties, s.Others = "object", map[string]*schema{}, nothing()
	for _, k := range t[path] {
		below := &schema{Description: k.Means}
		t.value(below, k.Path, k.form)
		s.Properties[k.name] = below
	}
	if path == "steps" {
		for _, k := range t[path] {
			if !slices.Contains([]string{"id", "after", "background", "when", "expect"}, k.name) {
				s.OneOf = append(s.OneOf, &schema{Required: []string{k.name}})
			}
		}
	}
	ofStep := strings.HasPrefix(path, "steps.") && path[strings.LastIndex(path, ".")+1:] == "when"
	if ofStep || path == "twins.NAME" {
		s.Others = &schema{}
		s.Others.schemaOf(anyText) // parameters
	}
}

// value makes a schema that of the value of a key.
func (t keyTable) value(s *schema, path string, f form) {
	entry := func() *schema {
		one := &schema{}
		if f.of == nil || f.of.kind == mappingForm {
			t.object(one, path)
		} else {
			t.value(one, path, *f.of)
		}
		return one
	}
	switch f.kind {
	case mappingForm:
		t.object(s, path)
	case namesForm:
		if _, named := t[path+".NAME"]; named {
			path += ".NAME"
		}
		s.Type, s.Others = "object", entry()
	case listForm:
		s.Type, s.Items, s.MinItems = "array", entry(), 1
	case oneOrListForm:
		s.AnyOf = []*schema{entry(), {Type: "array", Items: entry(), MinItems: 1}}
	case linkOrMapping:
		link := &schema{}
		t.object(link, path)
		link.Required = []string{"between"}
		s.AnyOf = []*schema{{Type: "string"}, link}
	case scalarForm:
		s.schemaOf(f)
	}
}

// parameter is what stands for the value of a parameter.
const parameter = `^\$\{[a-zA-Z][a-zA-Z0-9_-]*\}$`

// schemaOf makes a schema that of a scalar: YAML makes numbers and truth values of texts
// without quotes.
func (s *schema) schemaOf(f form) {
	for _, word := range f.words {
		if n, err := strconv.Atoi(word); err == nil {
			s.AnyOf = append(s.AnyOf, &schema{Type: "integer", Minimum: &n, Maximum: &n})
		}
	}
	switch {
	case f.numbers && (f.decimals || f.pattern == nil):
		s.AnyOf = append(s.AnyOf, &schema{Type: "number"})
	case f.numbers:
		s.AnyOf = append(s.AnyOf, &schema{Type: "integer", Minimum: &f.low})
	}
	if f.truths {
		s.AnyOf = append(s.AnyOf, &schema{Type: "boolean"})
	}
	text := &schema{Type: "string", Enum: f.words}
	if f.pattern != nil {
		text.Pattern = f.pattern.String()
	}
	s.AnyOf = append(s.AnyOf, text)
	if text.Enum != nil || text.Pattern != "" {
		s.AnyOf = append(s.AnyOf, &schema{Type: "string", Pattern: parameter})
	}
}
