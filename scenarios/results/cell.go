package results

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/report"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// cell is a cell on all kernels.
type cell struct {
	ID     string
	Values string // "clock=older isn=equal"
	on     []*Cell
	// Classes are those of each run, a letter each: "-" where it was not driven.
	Classes string
	Class   Class
	Outcome string
	Rule    string
	Cause   string // why not all goes well, as the rule says: an ID of the catalogue
	Wrong   bool   // on some kernel, not all was as the rule says
	Differs bool   // kernels differ
	Seen    evidence
	Others  []other
	Packets template.HTML // a drawing
	Again   string        // how it is had again: a command if it can be told as a file, or else a line of one
	Told    bool
	Took    string
	values  map[string]string
}

// Title is what a square says to a pointer.
func (c *cell) Title() string { return c.Values + ": " + c.Outcome }

// Mark is the symbol of a square.
func (c *cell) Mark() string {
	if c.Wrong {
		return "!"
	}
	return c.Class.Symbol()
}

// evidence is what was seen of a cell, in the order in which a reader looks for it.
type evidence struct {
	Wrong []claim.Line // not as the rule says
	Right []claim.Line // as it says; Wanted is empty where it allows nothing else
	None  string       // what must not have happened, and has not
	Also  string       // what the rule does not speak of
	Moved []moved
}

// moved are the counters of a role that moved.
type moved struct{ Role, Counters string }

// other is what another kernel did in the cell.
type other struct{ Heading, Class, Says string }

// ordinary are counters that every connection moves. They say nothing of a cell, and are left out.
var ordinary = []string{
	"Tcp.ActiveOpens", "Tcp.PassiveOpens", "Tcp.CurrEstab", "Tcp.InSegs", "Tcp.OutSegs", "TcpExt.DelayedACKs", "TcpExt.TCPDelivered",
	"TcpExt.TCPHPAcks", "TcpExt.TCPHPHits", "TcpExt.TCPOrigDataSent", "TcpExt.TCPPureAcks", "TcpExt.TCPRcvCoalesce",
}

// fill makes what is shown of a cell, from the newest kernel that has it.
func (c *cell) fill(runs []Run, f *family) {
	var parts []string
	for _, a := range f.Axes {
		parts = append(parts, a.Name+"="+c.values[a.Name])
	}
	if len(parts) == 0 {
		for _, name := range slices.Sorted(maps.Keys(c.values)) {
			parts = append(parts, name+"="+c.values[name])
		}
	}
	c.Values = report.Plain(strings.Join(parts, " "))
	var newest *Cell
	for i, one := range c.on {
		if one == nil {
			c.Classes += "-"
			continue
		}
		class := ClassOf(one.Result.Seen)
		c.Classes += string(class)
		c.Wrong = c.Wrong || !one.Result.Agrees()
		if newest == nil {
			newest, c.Class = one, class
			continue
		}
		o := other{Heading: runs[i].Heading, Class: class.CSS(), Says: differences(newest.Result, one.Result)}
		c.Differs = c.Differs || class != c.Class || one.Result.Rule != newest.Result.Rule
		c.Others = append(c.Others, o)
	}
	c.Rule, c.Outcome, c.Cause = newest.Result.Rule, report.Plain(outcomeOf(newest.Result)), report.Plain(newest.Result.Cause)
	c.Took = fmt.Sprintf("%.1f s", newest.Took.Seconds())
	c.Seen = evidenceOf(newest.Result)
}

// evidenceOf sorts what was seen.
func evidenceOf(r claim.Result) (e evidence) {
	compared := map[string]bool{}
	var none, also []string
	for _, l := range r.Lines {
		compared[l.What] = true
		l.What, l.Wanted, l.Got = report.Plain(l.What), report.Plain(l.Wanted), report.Plain(l.Got)
		switch {
		case !l.Right:
			e.Wrong = append(e.Wrong, l)
		case l.Wanted == "0":
			none = append(none, l.What)
		default:
			if l.Wanted == l.Got {
				l.Wanted = ""
			}
			e.Right = append(e.Right, l)
		}
	}
	for _, o := range r.Seen.Observations {
		if !compared[o.What] && !slices.Contains([]string{"", "0", "none"}, o.Got) {
			also = append(also, o.What+" "+o.Got)
		}
	}
	e.None, e.Also = strings.Join(none, ", "), report.Plain(strings.Join(also, "; "))
	for _, role := range slices.Sorted(maps.Keys(r.Seen.Moved)) {
		if counters := telling(r.Seen.Moved[role]); counters != "" {
			e.Moved = append(e.Moved, moved{report.Plain(string(role)), counters})
		}
	}
	return e
}

// telling are the counters that not every connection moves.
func telling(moved kernel.Counters) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(moved)) {
		if !strings.HasPrefix(name, "Ip") && !strings.HasPrefix(name, "Icmp") && !slices.Contains(ordinary, name) {
			parts = append(parts, fmt.Sprintf("%s +%d", name, moved[name]))
		}
	}
	return report.Plain(strings.Join(parts, ", "))
}

// again says how the cell is had again: by the command that prints it as a scenario file, or where
// files cannot bring it about, by its line of a file for hack/e2e --cell. Both have only what is not
// usual.
func (c *cell) again(f *family, of situation.Family) {
	var words, axes []string
	for _, a := range f.Axes {
		if v := c.values[a.Name]; v != a.Values[0] {
			words = append(words, a.Name+"="+v)
			axes = append(axes, fmt.Sprintf("%s: %q", a.Name, v))
		}
	}
	if c.Told = c.isTold(of); c.Told {
		c.Again = report.Plain(strings.Join(append([]string{"twlab show", f.Name}, words...), " "))
		return
	}
	c.Again = report.Plain(fmt.Sprintf("- {family: %s, axes: {%s}}", f.Name, strings.Join(axes, ", ")))
}

// isTold reports whether a scenario file can bring the cell about.
func (c *cell) isTold(of situation.Family) bool {
	if of.Tell == nil || of.Emulated != "" || len(c.values) != len(of.Axes) {
		return false // a cell of another version may have other axes
	}
	for _, a := range of.Axes {
		if !slices.Contains(a.Values, c.values[a.Name]) {
			return false
		}
	}
	i := slices.IndexFunc(of.Rules, func(r claim.Rule) bool { return r.Name == c.Rule })
	if i < 0 {
		return false
	}
	_, _, err := of.Scenario(claim.Cell{Values: c.values}, of.Rules[i])
	return err == nil
}

// outcomeOf is the result in a few words.
func outcomeOf(r claim.Result) string {
	text := r.Outcome()
	if n, there := numberOf(r.Seen, "syns"); there && n > 1 && text == "Connected" {
		text += fmt.Sprintf(" after %d SYNs", n)
	}
	return text
}

// differences says what another kernel did, compared with the newest one.
func differences(newest, older claim.Result) string {
	var parts []string
	if older.Rule != newest.Rule {
		parts = append(parts, "rule "+older.Rule, outcomeOf(older))
	}
	for _, l := range older.Lines {
		if got, there := newest.Seen.Get(l.What); there && got != l.Got || !l.Right {
			text := l.What + " " + l.Got
			if !l.Right {
				text += " (wanted " + l.Wanted + ")"
			}
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return "the same"
	}
	return report.Plain(strings.Join(parts, "; "))
}
