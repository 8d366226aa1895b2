package page

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/page/pagetest"
	"twlab/harness/recording"
)

// recorded is one of the recordings of package diagnose, with packets of its own.
func recorded(t *testing.T, scenario string) recording.Recording {
	t.Helper()
	for _, r := range recordings(t) {
		if r.Scenario == scenario {
			r.Packets = slices.Clone(r.Packets)
			return r
		}
	}
	t.Fatalf("no recording of %q", scenario)
	return recording.Recording{}
}

func TestSketchesShareShapes(t *testing.T) {
	const scenario = "a rule drops the SYN [ip=4]"
	var all Sketches
	r := recorded(t, scenario)
	r.Events = nil // as recordings of cells are
	first := all.Draw(&r, 30)
	for i := range r.Packets { // the second SYN comes a second later
		if i > 0 {
			r.Packets[i].Time = r.Packets[i].Time.Add(time.Second)
		}
	}
	later := all.Draw(&r, 30)
	if first == later || strings.Count(string(all.Shapes()), `<g class="shape"`) != 1 {
		t.Errorf("want one shape with two times:\n%s\n%s\n%s", first, later, all.Shapes())
	}
	for i := range r.Packets {
		r.Packets[i].Payload = 1
	}
	other := all.Draw(&r, 30)
	if !strings.Contains(string(other), `<use href="#shape2"/>`) || strings.Count(string(all.Shapes()), `<g class="shape"`) != 2 {
		t.Errorf("another packet has no shape of its own:\n%s", other)
	}
	if none := all.Draw(&recording.Recording{}, 30); none != "" {
		t.Errorf("nothing is drawn as %s", none)
	}
}

func TestASketchSaysWhatWasLeftOut(t *testing.T) {
	r := recorded(t, "a rule drops the SYN [ip=4]")
	var all Sketches
	lives := len(livesOf(&r))
	drawn := all.Draw(&r, 1)
	if !strings.Contains(string(drawn), fmt.Sprintf("The first 1 of %d packets", lives)) || !strings.Contains(string(all.Shapes()), fmt.Sprintf("and %d more packets", lives-1)) {
		t.Errorf("of %d packets:\n%s\n%s", lives, drawn, all.Shapes())
	}
}

// What a reader is told of a packet whose ports and numbers are not shown.
func TestWhatPacketsMeant(t *testing.T) {
	r := recorded(t, "a TIME_WAIT of the server has a newer timestamp [ip=4]")
	var all Sketches
	all.Draw(&r, 100)
	shape := string(all.Shapes())
	for _, says := range []string{"SYN, same five-tuple", "ACK, but not of this SYN"} {
		if !strings.Contains(shape, says) {
			t.Errorf("no %q in\n%s", says, shape)
		}
	}
}

func TestNothingInASketchIsMarkup(t *testing.T) {
	ours := []string{"html", "head", "body", "div", "svg", "defs", "g", "path", "text", "use"}
	shown := 0
	for _, r := range ownRecordings(t) {
		pagetest.Spoil(reflect.ValueOf(&r).Elem())
		var all Sketches
		drawn := string(all.Draw(&r, 100)) + string(all.Shapes())
		for _, n := range pagetest.Elements(t, drawn) {
			if !slices.Contains(ours, n.Data) {
				t.Fatalf("%s: <%s> in\n%s", r.Scenario, n.Data, drawn)
			}
		}
		shown += strings.Count(drawn, "&gt;")
	}
	if shown == 0 {
		t.Error("what was hostile is not shown at all")
	}
}

// Where a shape is drawn, it has no SVG around it: a style that asks for one does not apply there.
func TestShapesAreStyled(t *testing.T) {
	var all Sketches
	for _, r := range recordings(t) {
		all.Draw(&r, 100)
	}
	classes := map[string]bool{}
	for _, n := range pagetest.Elements(t, string(all.Shapes())) {
		for _, class := range strings.Fields(pagetest.Attribute(n, "class")) {
			classes[class] = true
		}
	}
	delete(classes, "shapes")
	delete(classes, "shape")
	styled := ""
	for line := range strings.Lines(style) {
		if strings.Contains(line, ":is(svg, .shape)") {
			styled += line
		}
	}
	for class := range classes {
		if !strings.Contains(styled, "."+class) {
			t.Errorf("nothing says how .%s looks in a shape", class)
		}
	}
	if len(classes) < 8 {
		t.Errorf("only the classes %v", classes)
	}
}
