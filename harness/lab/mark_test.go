//go:build linux

package lab

import (
	"slices"
	"testing"
	"time"

	"twlab/harness/observe"
)

// recording is a tap whose packets pass when the test says so.
type recording struct {
	passed []observe.Packet
	read   func() // is called after each look
}

func (r *recording) look() []observe.Packet {
	seen := r.passed
	if r.read != nil {
		r.read()
	}
	return seen
}

func (r *recording) pass(at int64) {
	r.passed = append(r.passed, observe.Packet{Time: time.Unix(at, 0)})
}

func (r *recording) Mark() int                       { return len(r.look()) }
func (r *recording) Since(mark int) []observe.Packet { return r.look()[mark:] }
func (r *recording) Forget(mark int, gone func(observe.Packet) bool) {
	r.passed = append(r.passed[:mark:mark], slices.DeleteFunc(slices.Clone(r.passed[mark:]), gone)...)
}
func (*recording) Lost() uint64 { return 0 }
func (*recording) Stop() error  { return nil }

// Taps are looked at one after the other. A packet that passes both meanwhile is
// after the mark at the first of them and before it at the second: it is in the
// middle of the list that comes later, and not at its end.
func TestAMarkDividesWhatPassesWhileItIsSet(t *testing.T) {
	var near, far recording
	l := &Lab{taps: map[string]link{"client0": {&near, &far}}}
	near.pass(1)
	far.pass(2)
	near.read = func() {
		near.read = nil
		near.pass(3)
		far.pass(4)
	}
	mark := l.Mark()
	near.pass(5)
	far.pass(6)
	for name, c := range map[string]struct {
		since Mark
		want  []int64
	}{
		"all":            {Mark{}, []int64{1, 2, 3, 4, 5, 6}},
		"since the mark": {mark, []int64{3, 5, 6}},
	} {
		packets, err := l.PacketsSince(c.since)
		if err != nil {
			t.Fatal(err)
		}
		var times []int64
		for _, p := range packets {
			times = append(times, p.Time.Unix())
		}
		if !slices.Equal(times, c.want) {
			t.Errorf("%s: those of %d, want %d", name, times, c.want)
		}
	}
}
