// Package nearest finds the names that somebody may have meant.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// To returns the names that are near to a slip of the pen, the nearest first, three at most.
func To(slip string, names []string) (found []string) {
	const most = 3
	bare := strings.TrimLeft(slip, "-")
	away := func(name string) int {
		const telling = 3 // letters that a name may be known by
		if b := strings.TrimLeft(name, "-"); min(len(bare), len(b)) >= telling && (strings.HasPrefix(b, bare) || strings.HasPrefix(bare, b)) {
			return 1
		}
		return distance(slip, name)
	}
	for _, name := range names {
		if away(name) <= max(2, len(bare)/3) {
			found = append(found, name)
		}
	}
	slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(away(a), away(b)) })
	return found[:min(most, len(found))]
}

// Hint is what an error says of the names that are near to a slip: "; near it: a, b", or
// nothing if none is.
func Hint(slip string, names []string) string {
	found := To(slip, names)
	if len(found) == 0 {
		return ""
	}
	return "; near it: " + strings.Join(found, ", ")
}

// distance is how many letters must be put in, taken out, changed or swapped with the next to
// make one text of the other.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, next[j]+1, row[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
