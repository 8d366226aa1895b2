package recording

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// schema is a JSON schema, as far as recordings need one (draft 2020-12).
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Type        string             `json:"type,omitempty"`
	Const       int                `json:"const,omitempty"`
	Format      string             `json:"format,omitempty"`
	Encoding    string             `json:"contentEncoding,omitempty"`
	Minimum     *int64             `json:"minimum,omitempty"`
	Maximum     *int64             `json:"maximum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Further is what other keys hold: of a map, or false.
	Further json.RawMessage    `json:"additionalProperties,omitempty"`
	Defs    map[string]*schema `json:"$defs,omitempty"`
}

// Schema returns the JSON schema of recordings, made of their types.
func Schema() ([]byte, error) {
	m := schemaMaker{defs: map[string]*schema{}}
	root, err := m.object(reflect.TypeFor[Recording]())
	if err != nil {
		return nil, err
	}
	root.Dialect, root.Defs = "https://json-schema.org/draft/2020-12/schema", m.defs
	root.Title = fmt.Sprintf("Recording of a run of twlab, version %d", FormatVersion)
	root.Properties["twlabRecording"].Const = FormatVersion
	return json.MarshalIndent(root, "", "  ")
}

// schemaMaker makes schemas; those of structs are named definitions.
type schemaMaker struct{ defs map[string]*schema }

func (m schemaMaker) object(t reflect.Type) (*schema, error) {
	s := &schema{Type: "object", Properties: map[string]*schema{}, Further: json.RawMessage("false")}
	for _, k := range keysOf(t) {
		of, err := m.of(k.of)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		s.Properties[k.name] = of
		if !k.optional {
			s.Required = append(s.Required, k.name)
		}
	}
	return s, nil
}

func (m schemaMaker) of(t reflect.Type) (*schema, error) {
	switch t {
	case timeType:
		return &schema{Type: "string", Format: "date-time"}, nil
	case addrType:
		return &schema{Type: "string", Description: "an IP address"}, nil
	case addrPortType:
		return &schema{Type: "string", Description: "an IP address and a port, or nothing"}, nil
	case bytesType:
		return &schema{Type: "string", Encoding: "base64"}, nil
	case durationType:
		return &schema{Type: "integer", Description: "nanoseconds"}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return &schema{Type: "string"}, nil
	case reflect.Bool:
		return &schema{Type: "boolean"}, nil
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer"}, nil
	case reflect.Uint16, reflect.Uint32:
		least, most := int64(0), int64(1)<<t.Bits()-1
		return &schema{Type: "integer", Minimum: &least, Maximum: &most}, nil
	case reflect.Uint64:
		least := int64(0)
		return &schema{Type: "integer", Minimum: &least}, nil
	case reflect.Float64:
		return &schema{Type: "number"}, nil
	case reflect.Pointer:
		return m.of(t.Elem())
	case reflect.Slice:
		items, err := m.of(t.Elem())
		return &schema{Type: "array", Items: items}, err
	case reflect.Map:
		below, err := m.of(t.Elem())
		if err != nil {
			return nil, err
		}
		further, err := json.Marshal(below)
		return &schema{Type: "object", Further: further}, err
	case reflect.Struct:
		return m.named(t)
	default:
		return nil, fmt.Errorf("no schema for the type %v", t)
	}
}

// named refers to the definition of a struct.
func (m schemaMaker) named(t reflect.Type) (*schema, error) {
	if m.defs[t.Name()] == nil {
		of, err := m.object(t)
		if err != nil {
			return nil, err
		}
		m.defs[t.Name()] = of
	}
	return &schema{Ref: "#/$defs/" + t.Name()}, nil
}
