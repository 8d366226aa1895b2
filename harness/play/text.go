//go:build linux

package play

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteText writes what was done and seen for people: a line for each step, and below it what
// was expected; what was not seen is marked.
func (r Recording) WriteText(to io.Writer) error {
	var b strings.Builder
	for _, s := range r.Steps {
		s.write(&b)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (s Step) write(b *strings.Builder) {
	if s.Skipped != "" {
		fmt.Fprintf(b, "     -  %2d %s: left out, %s\n", s.Number, s.What, s.Skipped)
		return
	}
	fmt.Fprintf(b, "%6.2f  %2d %s", s.Began.Seconds(), s.Number, s.What)
	if s.ID != "" {
		fmt.Fprintf(b, " (%s)", s.ID)
	}
	if result := s.Result.String(); result != "" {
		fmt.Fprintf(b, ": %s", result)
	}
	b.WriteString("\n")
	for _, f := range s.Findings {
		mark := "as expected "
		if !f.Met {
			mark = "NOT EXPECTED"
		}
		fmt.Fprintf(b, "              %s  %s: ", mark, f.What)
		if f.Met {
			fmt.Fprintf(b, "%s\n", f.Seen)
		} else {
			fmt.Fprintf(b, "wanted %s, seen %s\n", f.Wanted, f.Seen)
		}
	}
	if s.Problem != "" {
		fmt.Fprintf(b, "              FAILED  %s\n", s.Problem)
	}
}

// String describes a result in a few words.
func (r Result) String() string {
	var parts []string
	add := func(yes bool, format string, args ...any) { //nolint:forbidigo // as Sprintf has them
		if yes {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	if len(r.Attempts) == 1 {
		a := r.Attempts[0]
		add(true, "%s after %v", a.Outcome, a.Took.Round(10*time.Millisecond))
		add(a.SYNs > 1, "%d SYNs", a.SYNs)
		for _, reply := range a.Replies {
			add(true, "%v", reply)
		}
		add(a.ClosedFirst != "", "%s closed first", a.ClosedFirst)
	} else {
		add(len(r.Attempts) > 0 || r.Load != nil, "%s", outcomesOf(r))
		add(r.Outcome != "", "%s", r.Outcome)
	}
	add(r.Sent > 0 && len(r.Attempts) == 0, "%d bytes sent", r.Sent)
	add(r.Received > 0 && len(r.Attempts) == 0, "%d bytes received", r.Received)
	add(r.Errno != "", "%s", r.Errno)
	for _, h := range r.Holders {
		add(true, "the port is held by %v", h)
	}
	add(r.Forgotten > 0, "%d forgotten", r.Forgotten)
	add(r.Dropped > 0, "%d dropped", r.Dropped)
	return strings.Join(parts, ", ")
}
