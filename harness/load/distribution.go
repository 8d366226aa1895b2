//go:build linux

package load

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Distribution is the distribution of durations. It keeps all of them, eight bytes each;
// nothing is rounded.
type Distribution struct{ sorted []time.Duration }

func newDistribution(times []time.Duration) Distribution {
	sorted := slices.Clone(times)
	slices.Sort(sorted)
	return Distribution{sorted}
}

// Count returns the number of durations.
func (d Distribution) Count() int { return len(d.sorted) }

// Quantile returns the smallest duration that is not exceeded by a share of q, 0 to 1, of
// all durations; 0 when there are none.
func (d Distribution) Quantile(q float64) time.Duration {
	if len(d.sorted) == 0 {
		return 0
	}
	const rounding = 1e-9 // 0.9 * 10 is a little more than 9
	rank := int(math.Ceil(q*float64(len(d.sorted)) - rounding))
	return d.sorted[min(max(rank-1, 0), len(d.sorted)-1)]
}

// Mean returns the average; 0 when there are none.
func (d Distribution) Mean() time.Duration {
	if len(d.sorted) == 0 {
		return 0
	}
	var sum time.Duration
	for _, t := range d.sorted {
		sum += t
	}
	return sum / time.Duration(len(d.sorted))
}

// Max returns the longest duration.
func (d Distribution) Max() time.Duration { return d.Quantile(1) }

// String returns "p50 120us, p90 200us, p99 9.8ms, max 1.01s".
func (d Distribution) String() string {
	round := func(q float64) time.Duration {
		t := d.Quantile(q)
		if t > time.Millisecond {
			return t.Round(10 * time.Microsecond)
		}
		return t.Round(time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v", round(0.5), round(0.9), round(0.99), round(1))
}

// MarshalJSON writes the number of durations and some quantiles, in nanoseconds.
func (d Distribution) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count int           `json:"count"`
		P50   time.Duration `json:"p50"`
		P90   time.Duration `json:"p90"`
		P99   time.Duration `json:"p99"`
		P999  time.Duration `json:"p999"`
		Max   time.Duration `json:"max"`
	}{d.Count(), d.Quantile(0.5), d.Quantile(0.9), d.Quantile(0.99), d.Quantile(0.999), d.Max()})
}
