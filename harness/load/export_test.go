//go:build linux

package load

// Order is the order of the clients in one round, for tests.
func Order(p Plan, round uint64) []int { return (&run{Plan: p}).order(round) }
