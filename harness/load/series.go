//go:build linux

package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Row says what happened in one interval, and what the tables held at its end.
type Row struct {
	// At is the end of the interval, since the start of the load.
	At time.Duration `json:"at"`
	// Begun counts attempts that started in the interval, Outcomes those that had their
	// outcome in it, and Late the connected ones among the latter that had sent more than
	// one SYN.
	Begun    int                 `json:"begun"`
	Outcomes map[tcp.Outcome]int `json:"outcomes"`
	Late     int                 `json:"late"`
	// TimeWait and Flows are the numbers of TIME_WAITs and of conntrack entries at the end
	// of the interval, summed over the nodes of each role. At a gateway with one
	// destination behind it, an entry is a port in use.
	TimeWait map[topo.Role]int `json:"timeWait"`
	Flows    map[topo.Role]int `json:"flows"`
	// Moved says how much the TCP and conntrack counters of each watched role moved in the
	// interval; counters that did not move are left out.
	Moved map[topo.Role]kernel.Counters `json:"moved"`
}

// Connected returns the number of attempts that connected in the interval.
func (r Row) Connected() int { return r.Outcomes[tcp.Connected] }

// String returns one line: "12.0 s: 400 begun, 380 Connected (12 late), 20 TimedOut;
// TIME_WAIT balancer 380; flows gateway 380".
func (r Row) String() string {
	text := fmt.Sprintf("%.1f s: %d begun", r.At.Seconds(), r.Begun)
	for _, v := range slices.Sorted(maps.Keys(r.Outcomes)) {
		text += fmt.Sprintf(", %d %s", r.Outcomes[v], v)
		if v == tcp.Connected && r.Late > 0 {
			text += fmt.Sprintf(" (%d late)", r.Late)
		}
	}
	text += counted("TIME_WAIT", r.TimeWait)
	return text + counted("flows", r.Flows)
}

func counted(what string, by map[topo.Role]int) string {
	var parts []string
	for _, role := range slices.Sorted(maps.Keys(by)) {
		if by[role] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", role, by[role]))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s %s", what, strings.Join(parts, ", "))
}

// WriteSeries writes one JSON object per row, each on a line of its own.
func WriteSeries(to io.Writer, rows []Row) error {
	encoder := json.NewEncoder(to)
	for _, r := range rows {
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("write series: %w", err)
		}
	}
	return nil
}

// watch reads the tables and counters of the nodes once in each interval.
type watch struct {
	run  *run
	rows []Row
	last []kernel.Counters // of the watched nodes
	told int               // attempts that the rows told so far say have begun
}

// watch reads until ctx ends, which is no error.
func (w *watch) watch(ctx context.Context) error {
	var err error
	if w.last, err = node.CountersOf(ctx, w.run.Watched); err != nil {
		return quiet(ctx, err)
	}
	tick := time.NewTicker(w.run.interval())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := w.look(ctx, time.Since(w.run.began)); err != nil {
			return quiet(ctx, err)
		}
		if w.run.Progress != nil {
			w.run.Progress(w.progress())
		}
	}
}

// progress is the last row so far. It counts the attempts that have begun and not ended, whose
// moment is known only when they end.
func (w *watch) progress() Row {
	w.run.mu.Lock()
	defer w.run.mu.Unlock()
	row := w.count(len(w.rows) - 1)
	row.Begun = w.run.begun - w.told
	w.told = w.run.begun
	return row
}

// quiet hides an error after the end of the load, which interrupts every read.
func quiet(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// look ends a row now.
func (w *watch) look(ctx context.Context, at time.Duration) error {
	row := Row{At: at, TimeWait: map[topo.Role]int{}, Flows: map[topo.Role]int{}}
	for _, n := range w.run.nodes {
		full, err := n.Occupancy(ctx)
		if err != nil {
			return err
		}
		row.TimeWait[n.Identity().Role] += full.TimeWait
		row.Flows[n.Identity().Role] += full.Flows
	}
	now, err := node.CountersOf(ctx, w.run.Watched)
	if err != nil {
		return err
	}
	if w.last == nil { // the load ended before the first look
		w.last = now
	}
	row.Moved = moved(w.run.Watched, w.last, now)
	for role, by := range row.Moved {
		telling := by.Moved()
		maps.DeleteFunc(telling, func(name string, _ uint64) bool { return !tells(name) })
		row.Moved[role] = telling
	}
	w.last = now
	w.rows = append(w.rows, row)
	return nil
}

// tells reports whether a counter is one of TCP or of connection tracking, and so of the
// load. Those of IP move with every packet, those of ICMPv6 with neighbour discovery.
func tells(counter string) bool {
	return strings.HasPrefix(counter, "Tcp") || strings.HasPrefix(counter, "Conntrack.")
}

// series returns all rows with all outcomes.
func (w *watch) series() []Row {
	rows := make([]Row, len(w.rows))
	for i := range rows {
		rows[i] = w.count(i)
	}
	return rows
}

// count fills in the attempts that started, and those that had their outcome, in the
// interval of one row.
func (w *watch) count(i int) Row {
	row := w.rows[i]
	from := time.Duration(-1)
	if i > 0 {
		from = w.rows[i-1].At
	}
	row.Outcomes = map[tcp.Outcome]int{}
	for _, e := range w.run.ends {
		if from < e.began && e.began <= row.At {
			row.Begun++
		}
		if from < e.decided && e.decided <= row.At {
			row.Outcomes[e.result.Outcome]++
			if e.result.Outcome == tcp.Connected && e.result.SYNs > 1 {
				row.Late++
			}
		}
	}
	return row
}
