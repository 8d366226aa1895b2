package situation

import (
	"errors"
	"testing"
	"time"

	"twlab/harness/kernel"
)

// A look that comes too late is no word about the length.
func TestTimeWaitLength(t *testing.T) {
	const rto = 204 * time.Millisecond
	for name, c := range map[string]struct {
		left, elapsed, rto time.Duration
		want               string
		late               bool
	}{
		"just begun":                {59_990 * time.Millisecond, 12 * time.Millisecond, rto, FullTimeWait, false},
		"half over":                 {30 * time.Second, 30 * time.Second, rto, FullTimeWait, false},
		"recycled":                  {700 * time.Millisecond, 14 * time.Millisecond, rto, RecycledTimeWait, false},
		"recycled, and over":        {0, 5 * time.Second, rto, RecycledTimeWait, false},
		"gone before it could be":   {0, 100 * time.Millisecond, rto, "0s to 100ms", false},
		"of neither length":         {20 * time.Second, time.Second, rto, "20s to 21s", false},
		"over, whichever it was":    {0, 61 * time.Second, rto, "", true},
		"a timeout of many seconds": {50 * time.Second, 12 * time.Second, 18 * time.Second, "", true},
	} {
		got, err := timeWaitLength(kernel.Mainline(6, 18), c.left, c.elapsed, c.rto)
		if got != c.want || errors.Is(err, ErrTooLate) != c.late {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
