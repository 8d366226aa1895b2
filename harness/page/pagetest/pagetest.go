// Package pagetest looks at pages for tests.
package pagetest

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// Elements are all elements of a page, in order.
func Elements(t *testing.T, page string) (all []*html.Node) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

// Attribute is the value of an attribute; empty without it.
func Attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Anchors fails the test if a link leads to nothing on the page or out of it, a drawing refers to what
// is not there, or an anchor is there twice. It returns the number of links.
func Anchors(t *testing.T, page string) (links int) {
	t.Helper()
	return AnchorsOf(t, Elements(t, page))
}

// AnchorsOf is Anchors with all elements of a page.
func AnchorsOf(t *testing.T, all []*html.Node) (links int) {
	t.Helper()
	there := map[string]int{}
	for _, n := range all {
		if id := Attribute(n, "id"); id != "" {
			there[id]++
		}
	}
	for _, n := range all {
		href := Attribute(n, "href")
		switch {
		case href == "" || n.Data != "a" && n.Data != "use": // of a drawing
			continue
		case n.Data == "a":
			links++
		}
		if id, is := strings.CutPrefix(href, "#"); !is || there[id] != 1 {
			t.Errorf("a link to %q, which is there %d times", href, there[id])
		}
	}
	for id, n := range there {
		if n != 1 {
			t.Errorf("anchor %q is there %d times", id, n)
		}
	}
	return links
}

// Hostile is what no recording should have, and any may.
const Hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)></style>` + "\x1b[31m\u202e</pre>`<b>`"

// NoMarkup fails the test if something of Hostile became markup, or is not shown at all. scripts is
// how many scripts the page has of its own.
func NoMarkup(t *testing.T, page string, scripts int) {
	t.Helper()
	count := map[string]int{}
	for _, n := range Elements(t, page) {
		count[n.Data]++
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "javascript:") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
	}
	if count["script"] != scripts || count["img"] != 0 || count["style"] != 1 || count["b"] != 0 {
		t.Errorf("elements %v", count)
	}
	if strings.ContainsAny(page, "\x1b\u202e") {
		t.Error("there are control characters")
	}
	if !strings.Contains(page, "alert(1)") {
		t.Error("what was hostile is not shown at all")
	}
}

// Spoil puts Hostile behind every text in a value.
func Spoil(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.String:
		v.SetString(v.String() + Hostile)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			Spoil(v.Index(i))
		}
	case v.Kind() == reflect.Map:
		spoilt := reflect.MakeMap(v.Type())
		for _, key := range v.MapKeys() {
			name, value := reflect.New(key.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
			name.Set(key)
			value.Set(v.MapIndex(key))
			Spoil(name)
			Spoil(value)
			spoilt.SetMapIndex(name, value)
		}
		if v.Len() > 0 {
			v.Set(spoilt)
		}
	case v.Kind() == reflect.Struct && v.NumField() > 0 && v.Field(0).CanSet():
		for i := range v.NumField() {
			Spoil(v.Field(i))
		}
	}
}
