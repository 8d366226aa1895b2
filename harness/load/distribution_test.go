//go:build linux

package load

import (
	"encoding/json"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var times []time.Duration
	for i := 10; i >= 1; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	d := newDistribution(times)
	for q, want := range map[float64]time.Duration{0: 1, 0.1: 1, 0.5: 5, 0.51: 6, 0.9: 9, 0.99: 10, 1: 10} {
		if got := d.Quantile(q); got != want*time.Millisecond {
			t.Errorf("quantile %v of 1 to 10 ms is %v, want %d ms", q, got, want)
		}
	}
	if got := d.Mean(); got != 5500*time.Microsecond {
		t.Errorf("the mean of 1 to 10 ms is %v", got)
	}
	if got := (Distribution{}).Mean() + (Distribution{}).Max(); got != 0 {
		t.Errorf("the longest of no times is %v", got)
	}
	text, err := json.Marshal(d)
	if want := `{"count":10,"p50":5000000,"p90":9000000,"p99":10000000,"p999":10000000,"max":10000000}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}
