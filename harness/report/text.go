// Package report writes what recordings show for people: as text, as a mail, and for a CI.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// Text writes one recording: a line for each step, below it what was expected, and in the end
// the conclusion, the defaults that had a part in it, and where it was not as expected, the
// ladder of the connection that was not. What the recording says is made safe for a terminal.
func Text(to io.Writer, r recording.Recording) error { return write(to, r, false) }

// ASCII writes what Text does, with the ladder in ASCII alone.
func ASCII(to io.Writer, r recording.Recording) error { return write(to, r, true) }

func write(to io.Writer, r recording.Recording, ascii bool) error {
	var p page
	p.line("%s", r.Scenario)
	unexpected := r.Conclusion() == recording.NotAsExpected && !r.Twin
	for i, s := range r.Steps {
		p.step(s)
		p.why(diagnose.Of(&r, i), unexpected)
		if l := s.Result.Load; l != nil {
			p.load(*l, unexpected)
		}
	}
	if r.Unbuilt != "" {
		p.line("              FAILED  could not be built: %s", r.Unbuilt)
	}
	if r.Failed != "" {
		p.line("              FAILED  %s", r.Failed)
	}
	p.line("%s", conclusion(r))
	if left := LeftOut(r); left != "" {
		p.line("left out: %s; the default had a part in it", left)
	}
	if unexpected {
		for _, line := range Ladder(r, ascii) {
			p.line("%s", line)
		}
		p.line("next: run it with --keep, and look around in the network; with --output-dir, run.json and packets.pcapng have all packets")
	}
	_, err := io.WriteString(to, p.String())
	return err
}

// conclusion is the verdict in words, with its reason where the steps do not show it.
func conclusion(r recording.Recording) string {
	switch v := r.Conclusion(); {
	case r.Interrupted != "":
		return fmt.Sprintf("%v after %d of %d steps: %s", v, done(r), r.Planned, r.Interrupted)
	case r.Twin && v == recording.AsExpected:
		return v.String() + ": with this value, something must be different"
	case r.Twin && v == recording.NotAsExpected:
		return v.String() + ": with this value something must be different, and nothing is"
	default:
		return v.String()
	}
}

// done is how many steps have come to their end.
func done(r recording.Recording) int {
	n := 0
	for _, s := range r.Steps {
		if !s.Interrupted {
			n++
		}
	}
	return n
}

// page is text that is made line by line.
type page struct{ strings.Builder }

// line adds a line. Whatever is in it, it is one line, and no terminal obeys it.
func (p *page) line(format string, args ...any) { //nolint:forbidigo // as Sprintf has them
	p.WriteString(Plain(fmt.Sprintf(format, args...)) + "\n")
}

func (p *page) step(s recording.Step) {
	if s.Skipped != "" {
		p.line("     -  %2d %s: left out, %s", s.Number, s.What, s.Skipped)
		return
	}
	text := fmt.Sprintf("%6.2f  %2d %s", s.Began.Seconds(), s.Number, s.What)
	if s.ID != "" {
		text += fmt.Sprintf(" (%s)", s.ID)
	}
	if result := Result(s.Result); result != "" {
		text += ": " + result
	}
	if s.Interrupted {
		text += ": interrupted"
	}
	p.line("%s", text)
	for _, f := range s.Findings {
		if f.Met {
			p.line("              as expected   %s: %s", f.What, f.Seen)
		} else {
			p.line("              NOT EXPECTED  %s: wanted %s, seen %s", f.What, f.Wanted, f.Seen)
		}
	}
	if s.Problem != "" {
		p.line("              FAILED  %s", s.Problem)
	}
}

// why explains the attempts that were not fine: in two lines for each cause, or, where something
// was not as expected, in full.
func (p *page) why(all []diagnose.Diagnosis, whole bool) {
	count := map[string]int{}
	for _, d := range all {
		count[d.Short()]++
	}
	for _, d := range all {
		n := count[d.Short()]
		if d.Symptom == diagnose.Fine || n == 0 {
			continue
		}
		count[d.Short()] = 0
		lines := d.Lines()
		if !whole {
			lines = lines[:min(2, len(lines))]
		}
		for i, line := range lines {
			if i == 0 && n > 1 {
				line += fmt.Sprintf(", %d attempts", n)
			}
			p.line("              %s", line)
		}
	}
}

// load says why attempts of a load did not connect at once: in two lines for each cause, or, where
// something was not as expected, with the packets of one of them.
func (p *page) load(l recording.Load, whole bool) {
	for _, c := range l.Causes {
		p.line("              %d not at once: %s", c.Attempts, c.Short())
		lines := c.Why[min(1, len(c.Why)):] // the first one is the cause
		if !whole {
			lines = lines[:min(1, len(lines))]
		}
		for _, line := range lines {
			p.line("              %s", line)
		}
		if whole {
			for _, line := range c.Ladder {
				p.line("              %s", line)
			}
		}
	}
}

// Result describes a result in a few words; empty if there is nothing to say.
func Result(r recording.Result) string {
	var parts []string
	add := func(yes bool, format string, args ...any) { //nolint:forbidigo // as Sprintf has them
		if yes {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	if len(r.Attempts) == 1 {
		a := r.Attempts[0]
		add(a.Outcome != "", "%s after %v", a.Outcome, a.Took.Round(10*time.Millisecond))
		add(a.SYNs > 1, "%d SYNs", a.SYNs)
		for _, one := range a.Replies {
			add(true, "%s", reply(one))
		}
		add(a.ClosedFirst != "", "%s closed first", a.ClosedFirst)
	} else {
		add(len(r.Attempts) > 0 || r.Load != nil, "%s", r.Outcomes())
		add(r.Outcome != "", "%s", r.Outcome)
	}
	add(r.Sent > 0 && len(r.Attempts) == 0, "%d bytes sent", r.Sent)
	add(r.Received > 0 && len(r.Attempts) == 0, "%d bytes received", r.Received)
	add(r.Errno != "", "%s", r.Errno)
	for _, h := range r.Holders {
		add(true, "the port is held by %s", holder(h))
	}
	add(r.Forgotten > 0, "%d forgotten", r.Forgotten)
	add(r.Dropped > 0, "%d dropped", r.Dropped)
	return strings.Join(parts, ", ")
}

// reply describes the answer to a request.
func reply(r recording.Reply) string {
	text := r.Disposition
	add := func(yes bool, format string, args ...any) { //nolint:forbidigo // as Sprintf has them
		if yes {
			text += fmt.Sprintf(format, args...)
		}
	}
	add(r.Status != 0, " %d with %d bytes", r.Status, r.Bytes)
	add(r.Length >= 0, " of %d", r.Length)
	add(r.Written != 0 || r.WriteErrno != "", " after %d bytes written", r.Written)
	add(r.WriteErrno != "", " and %s", r.WriteErrno)
	add(r.Errno != "", " (%s)", r.Errno)
	add(r.Problem != "", ": %s", r.Problem)
	return text
}

// holder describes a socket that has a port.
func holder(h recording.Holder) string {
	text := strings.TrimSpace(fmt.Sprintf("%s %s %v > %v", h.Use, h.State, h.Local, h.Remote))
	var options []string
	if h.ReuseAddr {
		options = append(options, "SO_REUSEADDR")
	}
	if h.ReusePort {
		options = append(options, "SO_REUSEPORT")
	}
	switch {
	case !h.Open:
		return text
	case len(options) == 0:
		return text + " without SO_REUSEADDR"
	default:
		return text + " with " + strings.Join(options, " and ")
	}
}

// KernelsOf says which kernels the nodes had: one release, or each node's.
func KernelsOf(r recording.Recording) string {
	byKernel := map[string][]string{}
	for _, name := range names(r.Nodes) {
		kernel := r.Nodes[name].Kernel
		if r.Nodes[name].Guest {
			kernel += " (guest)"
		}
		byKernel[kernel] = append(byKernel[kernel], name)
	}
	kernels := names(byKernel)
	switch len(kernels) {
	case 0:
		return "-"
	case 1:
		return kernels[0]
	}
	// The kernel of the fewest nodes is what somebody has asked for.
	slices.SortStableFunc(kernels, func(a, b string) int { return len(byKernel[a]) - len(byKernel[b]) })
	for i, k := range kernels {
		kernels[i] = strings.Join(byKernel[k], ", ") + ": " + k
	}
	return strings.Join(kernels, "; ")
}
