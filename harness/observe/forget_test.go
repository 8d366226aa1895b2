//go:build linux

package observe

import (
	"slices"
	"testing"
)

// A mark means the same moment whatever was forgotten before it.
func TestForget(t *testing.T) {
	tap := &Tap{}
	pass := func(ports ...uint32) {
		for _, n := range ports {
			tap.packets, tap.numbers = append(tap.packets, Packet{Seq: n}), append(tap.numbers, tap.passed)
			tap.passed++
		}
	}
	seen := func(mark int) (all []uint32) {
		for _, p := range tap.Since(mark) {
			all = append(all, p.Seq)
		}
		return all
	}
	odd := func(p Packet) bool { return p.Seq%2 == 1 }
	pass(1, 2, 3, 4)
	middle := tap.Mark()
	pass(5, 6, 7)
	tap.Forget(middle, odd)
	if got := seen(0); !slices.Equal(got, []uint32{1, 2, 3, 4, 6}) {
		t.Errorf("after what was forgotten since the mark: %v", got)
	}
	tap.Forget(0, odd)
	if got := seen(middle); !slices.Equal(got, []uint32{6}) {
		t.Errorf("since the mark: %v", got)
	}
	end := tap.Mark()
	pass(8)
	if got := seen(end); !slices.Equal(got, []uint32{8}) {
		t.Errorf("since the end: %v", got)
	}
}
