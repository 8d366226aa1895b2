package nat

import (
	"math/rand/v2"
	"testing"

	"twlab/scenarios/claim"
)

// A true claim fails once in a million cells at most, and is not looser than
// that; a flipped sysctl (all or nothing) is always caught, and a coin that is
// loaded as one to nine nearly always.
func TestBoundsHoldForTheirOwnCoinAndNoOther(t *testing.T) {
	for _, n := range []int{shareSYNs, profilePorts} {
		least, most := claim.BinomialBounds(n, 0.5)
		if out := 1 - claim.BinomialWithin(n, 0.5, least, most); out > claim.Fluke {
			t.Errorf("%d tosses: outside of %d to %d with probability %v, want at most %v", n, least, most, out, claim.Fluke)
		}
		if out := 1 - claim.BinomialWithin(n, 0.5, least+1, most-1); out < claim.Fluke {
			t.Errorf("%d tosses: %d to %d would do as well as %d to %d", n, least+1, most-1, least, most)
		}
		for _, p := range []float64{0, 1} {
			if missed := claim.BinomialWithin(n, p, least, most); missed != 0 {
				t.Errorf("%d tosses that always come out alike pass with probability %v", n, missed)
			}
		}
	}
	least, most := claim.BinomialBounds(shareSYNs, 0.5)
	for _, p := range []float64{0.1, 0.9} {
		if missed := claim.BinomialWithin(shareSYNs, p, least, most); missed > 1e-6 {
			t.Errorf("a coin of %v passes for a fair one with probability %v", p, missed)
		}
	}
}

// On kernels where a clock is a host's and not a connection's, the coins of one
// host are not independent: whether its SYN is older depends on which two hosts
// meet. The bounds for independent coins hold all the same.
func TestBoundsHoldForClocksOfHosts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	least, most := claim.BinomialBounds(shareSYNs, 0.5)
	const runs = 20_000
	for range runs {
		clocks := make([]uint32, shareHosts)
		for i := range clocks {
			clocks[i] = random.Uint32()
		}
		rejected := int64(0)
		for port, from := range random.Perm(shareSYNs) {
			earlier, later := clocks[port%shareHosts], clocks[from%shareHosts]
			if int32(earlier-later) > 0 {
				rejected++
			}
		}
		if rejected < least || rejected > most {
			t.Fatalf("%d of %d rejected, bounds %d to %d", rejected, shareSYNs, least, most)
		}
	}
}
