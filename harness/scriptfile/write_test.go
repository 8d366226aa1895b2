package scriptfile

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"

	"twlab/harness/script"
)

// Every scenario and twin of every file that there is reads back the same after it was written.
func TestWhatIsWrittenReadsBack(t *testing.T) {
	files, err := ReadAll([]string{"../../scenarios/incidents", "../../scenarios/causes", "../../hack/cmd/twlab/check/first.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, s := range append(f.Scenarios, f.Twins...) {
			t.Run(filepath.Base(f.Name)+" "+s.Name, func(t *testing.T) {
				var text bytes.Buffer
				if err := Write(&text, s, "a remark"); err != nil {
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
