package scriptfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// schemaOfFiles compiles the schema.
func schemaOfFiles(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("twlab.schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("twlab.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate validates a file, as an editor does.
func validate(s *jsonschema.Schema, text []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return err
	}
	var b strings.Builder
	writeJSON(&b, document.Content[0])
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(b.String()))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// writeJSON writes a YAML value as JSON.
func writeJSON(b *strings.Builder, n *yaml.Node) {
	quoted := func(text string) {
		q, _ := json.Marshal(text) // a string always can be
		b.Write(q)
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteString("{")
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteString(",")
			}
			quoted(n.Content[i].Value)
			b.WriteString(":")
			writeJSON(b, n.Content[i+1])
		}
		b.WriteString("}")
	case yaml.SequenceNode:
		b.WriteString("[")
		for i, one := range n.Content {
			if i > 0 {
				b.WriteString(",")
			}
			writeJSON(b, one)
		}
		b.WriteString("]")
	default:
		switch n.ShortTag() {
		case "!!int", "!!float", "!!bool":
			b.WriteString(strings.TrimPrefix(n.Value, "+"))
		case "!!null":
			b.WriteString("null")
		default:
			quoted(n.Value)
		}
	}
}

func TestTheSchemaTakesWhatReadTakes(t *testing.T) {
	s := schemaOfFiles(t)
	files, err := filepath.Glob("../../scenarios/incidents/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range append(files, "../../hack/cmd/twlab/check/first.yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong with a stranger's file by its form alone, an editor sees as well.
func TestTheSchemaRefusesStrangers(t *testing.T) {
	s, refused := schemaOfFiles(t), 0
	for _, c := range hostile {
		byForm := strings.HasPrefix(c.want, "unknown key") || strings.HasPrefix(c.want, "want a port") || c.name == "a text alone" ||
			c.name == "a deep value"
		if !byForm {
			continue
		}
		if refused++; validate(s, c.text()) == nil {
			t.Errorf("%s validates", c.name)
		}
	}
	if refused < 8 {
		t.Errorf("%d files, want at least 8", refused)
	}
}
