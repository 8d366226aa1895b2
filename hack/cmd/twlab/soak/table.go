package soak

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// result is what came of one job in one run.
type result struct {
	run             int
	what            string
	busy            bool // all processors had something else to do
	wall, processor time.Duration
	red             []string // which tests or specs; none when all was green
}

// String is a line about it.
func (r result) String() string {
	processors := "free"
	if r.busy {
		processors = "busy"
	}
	outcome := "green"
	if len(r.red) > 0 {
		outcome = fmt.Sprintf("RED: %d", len(r.red))
	}
	return fmt.Sprintf("run %3d  processors %s  %-10s  %7.1f s, %7.1f s of processor time  %s",
		r.run, processors, r.what, r.wall.Seconds(), r.processor.Seconds(), outcome)
}

// table says of each job how many of its runs were red and what they took, of each
// test and spec that was red how often and in which runs, and then each run.
func table(all []result) string {
	var text strings.Builder
	for _, busy := range []bool{false, true} {
		for _, what := range []string{unit{}.name(), suite{}.name()} {
			if line := summary(all, what, busy); line != "" {
				fmt.Fprintln(&text, line)
			}
		}
	}
	inRuns := map[string][]string{}
	for _, r := range all {
		for _, name := range slices.Compact(slices.Sorted(slices.Values(r.red))) {
			inRuns[name] = append(inRuns[name], fmt.Sprint(r.run))
		}
	}
	often := slices.SortedFunc(maps.Keys(inRuns), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(inRuns[b]), len(inRuns[a])), cmp.Compare(a, b))
	})
	if len(often) > 0 {
		fmt.Fprintln(&text, "\nred, how often, in which runs:")
	}
	for _, name := range often {
		fmt.Fprintf(&text, "  %d  %s (%s)\n", len(inRuns[name]), name, strings.Join(inRuns[name], ", "))
	}
	fmt.Fprintln(&text)
	for _, r := range all {
		fmt.Fprintln(&text, r)
	}
	return text.String()
}

// summary is the line of one job with free or busy processors.
func summary(all []result, what string, busy bool) string {
	var runs, red int
	var wall, processor time.Duration
	for _, r := range all {
		if r.what != what || r.busy != busy {
			continue
		}
		runs++
		wall += r.wall
		processor += r.processor
		if len(r.red) > 0 {
			red++
		}
	}
	if runs == 0 {
		return ""
	}
	processors := "free"
	if busy {
		processors = "busy"
	}
	return fmt.Sprintf("%-10s  processors %s: %d runs, %d red; on average %.1f s, %.1f s of processor time",
		what, processors, runs, red, wall.Seconds()/float64(runs), processor.Seconds()/float64(runs))
}
