package picture

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write lab.svg anew")

const file = "../lab.svg"

func TestThePictureIsUpToDate(t *testing.T) {
	var want strings.Builder
	if err := Draw(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, []byte(want.String()), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Error("lab.svg is stale: run go test ./scenarios/picture -update and look at it")
	}
}

// It is well-formed, and has every node of the plan once.
func TestThePictureHasEveryNode(t *testing.T) {
	var drawn strings.Builder
	if err := Draw(&drawn); err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(strings.NewReader(drawn.String())); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	plan, err := shown().Network().Plan()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range plan.Nodes {
		if strings.Count(drawn.String(), ">"+n.Name+"<") != 1 || !strings.Contains(drawn.String(), ">"+n.Addr.String()+"<") {
			t.Errorf("want %s, once, and its address %s", n.Name, n.Addr)
		}
	}
}
