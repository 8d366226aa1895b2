package claim

import (
	"math"
	"testing"
)

func TestBinomialIsADistribution(t *testing.T) {
	for _, p := range []float64{0, 0.1, 0.5, 0.9, 1} {
		if sum := BinomialWithin(128, p, 0, 128); math.Abs(sum-1) > 1e-9 {
			t.Errorf("p %v: the probabilities add up to %v", p, sum)
		}
	}
	if got, want := binomial(4, 2, 0.5), 6.0/16; math.Abs(got-want) > 1e-12 {
		t.Errorf("two heads in four tosses: %v, want %v", got, want)
	}
}
