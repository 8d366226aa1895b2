package ladder

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// quiet is the time without a packet from which on it is a gap. The shortest time to a
	// retransmission is 200 ms.
	quiet = 150 * time.Millisecond
	// fewest is how often something comes again before it is folded.
	fewest = 3
	// mostPeriod is the longest sequence of packets that is looked for.
	mostPeriod = 4
)

// fold puts in the gaps, and folds what comes again.
func fold(rows []Row) (folded []Row) {
	bursts := split(rows)
	for i := 0; i < len(bursts); {
		if i > 0 {
			if g := gap(bursts[i-1], bursts[i], rows); g.At >= quiet {
				folded = append(folded, g)
			}
		}
		same := i
		for same > 0 && same < len(bursts) && equal(bursts[same], bursts[i-1]) {
			same++
		}
		if same > i { // like the burst before
			folded = append(folded, again(bursts[i:same]))
			i = same
			continue
		}
		folded = append(folded, repeats(bursts[i])...)
		i++
	}
	return folded
}

// split cuts rows where nothing happened for a while, and before what a call returned in the
// end.
func split(rows []Row) (bursts [][]Row) {
	var last time.Duration
	for i, row := range rows {
		if len(bursts) == 0 || row.Kind != Note && row.At-last >= quiet || i == len(rows)-1 && row.Kind == Outcome {
			bursts = append(bursts, nil)
		}
		n := len(bursts) - 1
		bursts[n] = append(bursts[n], row)
		last = max(last, row.At)
	}
	return bursts
}

// packetsOf are the rows of packets alone.
func packetsOf(rows []Row) (all []Row) {
	for _, row := range rows {
		if row.Kind == Packet {
			all = append(all, row)
		}
	}
	return all
}

// equal reports whether two bursts are the same packets, sent again.
func equal(x, y []Row) bool {
	if slices.ContainsFunc(x, func(r Row) bool { return r.Kind == Outcome }) {
		return false // it has something to say of its own
	}
	x, y = packetsOf(x), packetsOf(y)
	return len(x) > 0 && slices.EqualFunc(x, y, func(x, y Row) bool { return shape(x) == shape(y) && x.Arrow.Label == y.Arrow.Label })
}

// shape is what rows of equal arrows have in common, whatever their numbers.
func shape(r Row) string {
	if r.Kind != Packet {
		return ""
	}
	first := r.Arrow.Seen[0]
	flags := strings.ReplaceAll(first.Flags, "P", "") // the last segment of what was written
	return fmt.Sprintf("%s %v %d %d %v %s %v %s", flags, first.Payload > 0, r.Arrow.From, r.Arrow.To, r.Arrow.Back, r.Arrow.End, r.Arrow.Via, r.Text)
}

// gap is the row between two bursts, with the reason for it.
func gap(before, after, all []Row) Row {
	began, ended := before[len(before)-1].At, after[0].At
	row := Row{Kind: Gap, At: ended - began}
	why := "nothing is sent"
	next := packetsOf(after)
	if len(next) == 0 {
		why = "no answer"
	} else if p := next[0].Arrow.Seen[0]; p.Is('S') || p.Payload > 0 || p.Is('F') {
		sent := slices.ContainsFunc(all, func(r Row) bool {
			if r.Kind != Packet || r.First >= next[0].First {
				return false
			}
			s := r.Arrow.Seen[0]
			return s.Seq == p.Seq && s.Flags == p.Flags && s.Src == p.Src && s.Payload == p.Payload
		})
		if sent {
			why = "no answer, so it is sent again"
		}
	}
	row.Text = fmt.Sprintf("%s: %s", seconds(row.At), why)
	return row
}

// again stands for bursts like the one before.
func again(bursts [][]Row) Row {
	rows := slices.Concat(bursts...)
	all := packetsOf(rows)
	row := Row{Kind: Repeat, At: all[0].At, First: all[0].First, Last: all[len(all)-1].Last, Text: "the same again"}
	if n := len(bursts); n > 1 {
		row.Text = fmt.Sprintf("the same %d times, the last at %s", n, seconds(bursts[n-1][0].At))
	}
	return row
}

// repeats folds sequences of packets that come three times and more in one burst.
func repeats(rows []Row) (folded []Row) {
	for i := 0; i < len(rows); {
		period, times := repeated(rows[i:])
		if times < fewest {
			folded = append(folded, rows[i])
			i++
			continue
		}
		folded = append(folded, rows[i:i+period]...)
		rest := rows[i+period : i+period*times]
		row := Row{Kind: Repeat, At: rest[0].At, First: rest[0].First, Last: rest[len(rest)-1].Last}
		row.Text = fmt.Sprintf("the same %d times more, to %s", times-1, rest[len(rest)-1].Arrow.Label)
		folded = append(folded, row)
		i += period * times
	}
	return folded
}

// repeated is how often the rows begin with the same sequence, and how long that is.
func repeated(rows []Row) (period, times int) {
	for period = 1; period <= mostPeriod && period <= len(rows); period++ {
		for times = 0; (times+1)*period <= len(rows); times++ {
			at := rows[times*period:]
			if !slices.EqualFunc(at[:period], rows[:period], func(x, y Row) bool { return x.Kind == Packet && shape(x) == shape(y) }) {
				break
			}
		}
		if times >= fewest {
			return period, times
		}
	}
	return 1, 1
}

// seconds writes a time as short as it is worth.
func seconds(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}
