package claim

import "math"

// Fluke is how often a claim about chance may fail although it is true: once in a million
// cells. An ordinary run has fewer than a hundred such cells, so fewer than one in ten
// thousand runs fail by chance.
const Fluke = 1e-6

// BinomialBounds are the narrowest bounds such that the number of successes in n independent
// trials of probability p is outside with a probability of at most Fluke. The tails are
// summed exactly, half of Fluke on each side.
func BinomialBounds(n int, p float64) (least, most int64) {
	tail := 0.0
	for k := 0; k <= n; k++ {
		if tail += binomial(n, k, p); tail > Fluke/2 {
			least = int64(k)
			break
		}
	}
	tail = 0
	for k := n; k >= 0; k-- {
		if tail += binomial(n, k, p); tail > Fluke/2 {
			most = int64(k)
			break
		}
	}
	return least, most
}

// BinomialWithin is the probability that the number of successes is between least and most:
// how often this p satisfies bounds that were made for another p.
func BinomialWithin(n int, p float64, least, most int64) (sum float64) {
	for k := max(0, least); k <= min(most, int64(n)); k++ {
		sum += binomial(n, int(k), p)
	}
	return sum
}

// binomial is the probability of exactly k successes.
func binomial(n, k int, p float64) float64 {
	switch p {
	case 0, 1: // no logarithm of these
		if float64(k) == p*float64(n) {
			return 1
		}
		return 0
	}
	log := func(x int) float64 { l, _ := math.Lgamma(float64(x) + 1); return l }
	return math.Exp(log(n) - log(k) - log(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log(1-p))
}

// About expects the number of successes of n independent trials of probability p.
func About(what string, n int, p float64) Expectation {
	least, most := BinomialBounds(n, p)
	return Between(what, least, most)
}
