package scriptfile

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// Every scenario and twin of every file that there is reads back the same after it was written.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	files, err := ReadAll([]string{"../../scenarios/incidents", "../../scenarios/causes", "../../hack/cmd/twlab/check/first.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for i, s := range append(f.Scenarios, f.Twins...) {
			t.Run(filepath.Base(f.Name)+" "+s.Name, func(t *testing.T) {
				var text bytes.Buffer
				err := Write(&text, s, "a remark")
				if i >= len(f.Scenarios) && err != nil && strings.Contains(err.Error(), "nothing names the address") {
					return // only the steps that the twin leaves out do
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, text.String())
				}
				back, err := Read("back.yaml", text.Bytes())
				if err != nil {
					t.Fatalf("%v\n%s", err, text.String())
				}
				if !reflect.DeepEqual(back.Scenarios, []script.Scenario{s}) {
					t.Errorf("got\n%+v\nwant\n%+v\nfrom\n%s", back.Scenarios, s, text.String())
				}
			})
		}
	}
}

// What files cannot say is refused, and not left out.
func TestWhatCannotBeWritten(t *testing.T) {
	f, err := Read("good.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*script.Scenario){
		"an address": func(s *script.Scenario) { s.Network.Nodes[0].Addr = s.Addresses["vip"].Next() },
		"no steps":   func(s *script.Scenario) { s.Steps = nil },
		"a connection of nobody": func(s *script.Scenario) {
			s.Steps = append(s.Steps, script.Step{Do: script.Clock{Conn: script.Conn{Step: "nobody"}}})
		},
	} {
		s := f.Scenarios[0]
		s.Network.Nodes = append([]topo.Node(nil), s.Network.Nodes...)
		change(&s)
		var text bytes.Buffer
		if err := Write(&text, s); !errors.Is(err, ErrInexpressible) || text.Len() > 0 {
			t.Errorf("%s: %v, written is %q", name, err, text.String())
		}
	}
}

// Remarks are comments, whatever is in them.
func TestRemarksAreComments(t *testing.T) {
	f, err := Read("good.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := Write(&text, f.Scenarios[0], "one\ntwo: \x1b[31mred", strings.Repeat("word ", 60)); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(text.String(), "twlab: 1\n")
	for _, line := range strings.Split(strings.TrimSpace(head), "\n") {
		if !strings.HasPrefix(line, "#") || len(line) > lineWidth || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
}
