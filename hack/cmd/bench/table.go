package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// table prints one line for each comparison as soon as it is known.
type table struct{ out io.Writer }

// sample is what one side of a comparison measured, one value for each round.
type sample []float64

func (s *sample) add(d time.Duration) { *s = append(*s, d.Seconds()) }

func (s sample) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// goal is a bound of ours/other, and no bound at all when it is zero.
type goal struct {
	atMost, atLeast float64
}

func (g goal) words(ratio float64) (bound, met string) {
	answer := func(ok bool) string {
		if ok {
			return "yes"
		}
		return "NO"
	}
	switch {
	case g.atMost > 0:
		return fmt.Sprintf("<= %.2f", g.atMost), answer(ratio <= g.atMost)
	case g.atLeast > 0:
		return fmt.Sprintf(">= %.2f", g.atLeast), answer(ratio >= g.atLeast)
	default:
		return "-", "-"
	}
}

const layout = "%-62s %12s %12s %7s  %-8s %-4s\n"

func (t *table) head() {
	fmt.Fprintf(t.out, layout, "what, against what", "ours", "other", "ratio", "goal", "met")
}

// compare prints ours, other and ours/other.
func (t *table) compare(what string, ours, other sample, format func(float64) string, g goal) {
	ratio := ours.median() / other.median()
	bound, met := g.words(ratio)
	fmt.Fprintf(t.out, layout, what, format(ours.median()), format(other.median()), fmt.Sprintf("%.2f", ratio), bound, met)
}

// paired is compare, with the median of the ratios of all rounds: what a busy neighbour takes away
// in a round, it takes away from both.
func (t *table) paired(what string, ours, other sample, format func(float64) string, g goal) {
	var ratios sample
	for i := range ours {
		ratios = append(ratios, ours[i]/other[i])
	}
	bound, met := g.words(ratios.median())
	fmt.Fprintf(t.out, layout, what, format(ours.median()), format(other.median()), fmt.Sprintf("%.2f", ratios.median()), bound, met)
}

// bounded prints a value that has nothing to be compared with but a bound, in
// seconds.
func (t *table) bounded(what string, ours sample, format func(float64) string, atMost float64) {
	_, met := goal{atMost: atMost}.words(ours.median())
	fmt.Fprintf(t.out, layout, what, format(ours.median()), "-", "-", fmt.Sprintf("<= %.0f s", atMost), met)
}

// alone prints a value that has nothing to be compared with.
func (t *table) alone(what string, ours sample, format func(float64) string) {
	fmt.Fprintf(t.out, layout, what, format(ours.median()), "-", "-", "-", "-")
}

// note prints a sentence between the lines.
func (t *table) note(sentence string) { fmt.Fprintf(t.out, "note: %s\n", sentence) }

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.1f ms", s*1e3)
	}
	return fmt.Sprintf("%.2f s", s)
}

func microseconds(s float64) string { return fmt.Sprintf("%.1f us", s*1e6) }

func perSecond(rate float64) string { return fmt.Sprintf("%.0f /s", rate) }

func mebibytes(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }
