package nearest

import (
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"doctor", "load", "kernels", "matrix", "mutate", "ask", "soak"}
	for slip, want := range map[string][]string{
		"laod": {"load"}, "mutat": {"mutate"}, "kernel": {"kernels"}, "matrxi": {"matrix"}, "sok": {"soak", "ask"}, "weather": nil, "x": nil,
	} {
		if got := To(slip, names); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", slip, got, want)
		}
	}
	for slip, want := range map[string]string{"sok": "; near it: soak, ask", "weather": ""} {
		if got := Hint(slip, names); got != want {
			t.Errorf("hint of %s: %q, want %q", slip, got, want)
		}
	}
}
