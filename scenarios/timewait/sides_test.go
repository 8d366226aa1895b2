package timewait

import (
	"testing"
	"time"

	"twlab/harness/kernel"
)

func TestLastingTellsTheLengthOfATimer(t *testing.T) {
	newer, old, older := kernel.Mainline(6, 18), kernel.Mainline(4, 4), kernel.Mainline(3, 16)
	for _, c := range []struct {
		on            kernel.Release
		left, elapsed time.Duration
		want          string
	}{
		{newer, 60 * time.Second, 0, "60 s"},
		{newer, 59990 * time.Millisecond, 20 * time.Millisecond, "60 s"},
		{newer, 60004 * time.Millisecond, time.Millisecond, "60 s"},
		{newer, 58 * time.Second, 2 * time.Second, "60 s"},
		{newer, 996 * time.Millisecond, 5 * time.Millisecond, "1 s"},
		{newer, 4999 * time.Millisecond, time.Millisecond, "5 s"},
		{newer, 30 * time.Second, time.Second, "30s"},
		{newer, 700 * time.Millisecond, 10 * time.Millisecond, "700ms"},
		{newer, 970 * time.Millisecond, 5 * time.Millisecond, "970ms"},
		{newer, 1120 * time.Millisecond, 5 * time.Millisecond, "1.12s"},
		{old, 1120 * time.Millisecond, 5 * time.Millisecond, "1.12s"},
		{older, 1120 * time.Millisecond, 5 * time.Millisecond, "1 s"}, // 7 slots of 160 ms
		{older, 1240 * time.Millisecond, 5 * time.Millisecond, "1.24s"},
		{newer, 60180 * time.Millisecond, 5 * time.Millisecond, "1m0.18s"},
		{old, 60180 * time.Millisecond, 5 * time.Millisecond, "60 s"}, // less than 60 s / 256 more
		{older, 60180 * time.Millisecond, 5 * time.Millisecond, "60 s"},
		{old, 60300 * time.Millisecond, 5 * time.Millisecond, "1m0.3s"},
	} {
		if got := lasting(c.on, c.left, c.elapsed); got != c.want {
			t.Errorf("lasting(%v, %v, %v) = %q, want %q", c.on, c.left, c.elapsed, got, c.want)
		}
	}
}

func TestWhenATimeWaitMayBeGone(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		on          kernel.Release
		still, gone time.Duration
		want        string
	}{
		{kernel.Mainline(6, 18), 59 * second, 61 * second, "60 s"},
		{kernel.Mainline(6, 18), 67 * second, 68 * second, "60 s"},
		{kernel.Mainline(6, 18), 68 * second, 69 * second, "1m8s to 1m9s"},
		{kernel.Mainline(6, 18), 30 * second, 59 * second, "30s to 59s"},
		{kernel.Mainline(4, 4), 61 * second, 62 * second, "1m1s to 1m2s"},
		{kernel.Mainline(4, 4), 52 * second, 53 * second, "52s to 53s"},
		{kernel.Mainline(3, 16), 52 * second, 53 * second, "60 s"},
		{kernel.Mainline(3, 16), 51 * second, 52 * second, "51s to 52s"},
	} {
		if got := goneAfter(c.on, c.still, c.gone); got != c.want {
			t.Errorf("goneAfter(%v, %v, %v) = %q, want %q", c.on, c.still, c.gone, got, c.want)
		}
	}
}
