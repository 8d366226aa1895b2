package page

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"twlab/harness/diagnose"
	"twlab/harness/recording"
	"twlab/harness/report"
)

// The most rows of a table; what is left out is said.
const (
	mostRows    = 80
	mostMoments = 5
)

// moment is a time at which the states of all nodes are known.
type moment struct {
	Name   string
	states map[string]recording.State
}

// moments are the beginning, the end, and those between that are nearest to what went wrong.
func (v *view) moments() (all []moment) {
	wrong := map[int]bool{}
	for _, d := range v.found {
		if d.Symptom != diagnose.Fine {
			wrong[d.Step] = true
		}
	}
	last := -1 // the latest step with a state
	keep := map[int]bool{}
	for i, s := range v.r.Steps {
		if wrong[s.Number] && last >= 0 {
			keep[last] = true
		}
		if s.After != nil {
			last = i
			if wrong[s.Number] {
				keep[i] = true
			}
		}
	}
	all = append(all, moment{"at the beginning", v.r.Before})
	for _, i := range slices.Sorted(maps.Keys(keep)) {
		if len(all) < mostMoments-1 {
			all = append(all, moment{fmt.Sprintf("after step %d", v.r.Steps[i].Number), v.r.Steps[i].After})
		}
	}
	return append(all, moment{"at the end", v.r.After})
}

// table is one of the states before and after.
type table struct {
	ID, Title string
	Moments   []moment
	Heads     []string
	Rows      []tableRow
	More      int // rows that were left out
}

// tableRow is a thing, and what was known of it at each moment.
type tableRow struct {
	ID    string
	Names []string
	Cells []cell
}

type cell struct {
	Text    string
	Changed bool // it is not as at the moment before
}

// tables are those of sockets, conntrack entries and rules.
func (v *view) tables() (all []table) {
	moments := v.moments()
	kinds := []struct {
		name, title string
		heads       []string
		of          func(recording.State) [][]string // name..., value
	}{
		{"sockets", "Sockets", []string{"node", "local", "remote"}, socketsOf},
		{"flows", "Conntrack entries", []string{"node", "first packet", "replies come from, and go to"}, flowsOf},
		{"rules", "Rules, with the packets that they matched", []string{"node", "rule"}, rulesOf},
	}
	for _, k := range kinds {
		t := table{ID: v.section(k.name), Title: k.title, Moments: moments, Heads: k.heads}
		rows := map[string]*tableRow{}
		var order []string
		for i, m := range moments {
			for _, node := range slices.Sorted(maps.Keys(m.states)) {
				for _, entry := range k.of(m.states[node]) {
					names, value := append([]string{node}, entry[:len(entry)-1]...), entry[len(entry)-1]
					key := strings.Join(names, "\x00")
					if rows[key] == nil {
						rows[key] = &tableRow{Names: plain(names), Cells: make([]cell, len(moments))}
						order = append(order, key)
					}
					if was := rows[key].Cells[i].Text; was != "" {
						value = was + ", " + value
					}
					rows[key].Cells[i].Text = report.Plain(value)
				}
			}
		}
		slices.Sort(order)
		for n, key := range order {
			if n == mostRows {
				t.More = len(order) - mostRows
				break
			}
			r := rows[key]
			for i := 1; i < len(r.Cells); i++ {
				r.Cells[i].Changed = r.Cells[i].Text != r.Cells[i-1].Text
			}
			r.ID = v.id(k.name+"%d", n+1)
			if k.name == "rules" {
				v.ruleRows = append(v.ruleRows, row{r.ID, r.Names[0], r.Names[1]})
				v.has[r.ID] = true
			}
			t.Rows = append(t.Rows, *r)
		}
		if len(t.Rows) > 0 {
			v.has[t.ID] = true
			all = append(all, t)
		}
	}
	return all
}

func plain(texts []string) []string {
	all := make([]string, len(texts))
	for i, t := range texts {
		all[i] = report.Plain(t)
	}
	return all
}

func socketsOf(s recording.State) (all [][]string) {
	for _, one := range s.Sockets {
		value := one.State
		if one.RecvQueue > 0 {
			value += fmt.Sprintf(", %d waiting to be read", one.RecvQueue)
		}
		if one.SendQueue > 0 && one.State != "LISTEN" {
			value += fmt.Sprintf(", %d not acknowledged", one.SendQueue)
		}
		all = append(all, []string{one.Local.String(), one.Remote.String(), value})
	}
	return all
}

func flowsOf(s recording.State) (all [][]string) {
	for _, one := range s.Flows {
		value := one.State
		if !one.SeenReply {
			value += ", UNREPLIED"
		}
		if one.Assured {
			value += ", ASSURED"
		}
		all = append(all, []string{fmt.Sprintf("%v > %v", one.From, one.To), fmt.Sprintf("%v > %v", one.At, one.As), value})
	}
	return all
}

func rulesOf(s recording.State) (all [][]string) {
	for _, one := range s.Rules {
		text := fmt.Sprintf("%s -A %s %s", one.Table, one.Chain, strings.TrimPrefix(one.Rule, "-A "+one.Chain+" "))
		if one.IPVersion == 6 {
			text = "IPv6: " + text
		}
		all = append(all, []string{text, strconv.FormatUint(one.Packets, 10)})
	}
	return all
}

// counter is one that moved at a node during the run.
type counter struct {
	ID, Node, Name string
	By             uint64
}

// counters are those that moved. Numbers of octets and of packets of the layers below TCP are
// left out, since every packet moves them.
func (v *view) counters() (all []counter) {
	for _, node := range slices.Sorted(maps.Keys(v.r.After)) {
		before, after := v.r.Before[node].Counters, v.r.After[node].Counters
		for _, name := range slices.Sorted(maps.Keys(after)) {
			by := after[name] - before[name]
			if by == 0 || after[name] < before[name] || everyPacket(name) {
				continue
			}
			c := counter{v.id("c%d", len(all)+1), report.Plain(node), report.Plain(name), by}
			v.counterRows = append(v.counterRows, row{c.ID, node, name})
			v.has[c.ID] = true
			all = append(all, c)
		}
	}
	// A fact may say of a counter that it stood still: then it is here with 0.
	for _, d := range v.found {
		for _, f := range d.Findings {
			for _, e := range f.NotThese {
				all = v.still(all, e.By)
			}
		}
	}
	return all
}

// still adds the counter that a fact names, if it is not there: "TcpExt.ListenOverflows of server rose
// by 0".
func (v *view) still(all []counter, f diagnose.Fact) []counter {
	if f.By != recording.OfCounters || v.named(v.counterRows, f.Says, "") != "" {
		return all
	}
	for _, node := range slices.Sorted(maps.Keys(v.r.Nodes)) {
		name, _, is := strings.Cut(f.Says, " of "+node+" rose by ")
		if is && !strings.Contains(name, " ") {
			c := counter{v.id("c%d", len(all)+1), report.Plain(node), report.Plain(name), 0}
			v.counterRows = append(v.counterRows, row{c.ID, node, name})
			v.has[c.ID] = true
			return append(all, c)
		}
	}
	return all
}

func everyPacket(name string) bool {
	for _, prefix := range []string{"IpExt.", "Ip6.", "Icmp6.", "Ip.InReceives", "Ip.InDelivers", "Ip.OutRequests", "Ip.OutTransmits", "Ip.ForwDatagrams"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// account is what became of the packets of each kind.
type account struct {
	Places []string // where packets ended that were not delivered
	Rows   []accountRow
}

type accountRow struct {
	Kind            string
	Sent, Delivered int
	Ended           []int // by place
}

// account counts packets by where they ended. Each is in one column.
func (v *view) account() account {
	byKind, places := map[string]*accountRow{}, map[string]bool{}
	var kinds []string
	placeOf := func(l *life) string {
		switch {
		case l.drop != nil:
			return "dropped by " + l.drop.Node
		case l.End == diagnose.Delivered:
			return ""
		}
		return l.ending()
	}
	for _, l := range v.lives {
		if byKind[l.kind()] == nil {
			byKind[l.kind()] = &accountRow{Kind: l.kind()}
			kinds = append(kinds, l.kind())
		}
		if p := placeOf(l); p != "" {
			places[p] = true
		}
	}
	a := account{Places: slices.Sorted(maps.Keys(places))}
	sum := accountRow{Kind: "all packets", Ended: make([]int, len(a.Places))}
	for _, k := range kinds {
		byKind[k].Ended = make([]int, len(a.Places))
	}
	for _, l := range v.lives {
		r := byKind[l.kind()]
		r.Sent++
		sum.Sent++
		if i := slices.Index(a.Places, placeOf(l)); i >= 0 {
			r.Ended[i]++
			sum.Ended[i]++
		} else {
			r.Delivered++
			sum.Delivered++
		}
	}
	for _, k := range kinds {
		a.Rows = append(a.Rows, *byKind[k])
	}
	a.Places = plain(a.Places)
	if len(a.Rows) > 1 {
		a.Rows = append(a.Rows, sum)
	}
	return a
}

// whoEndedSYNs says where the SYNs of a load ended that were not delivered.
func (a account) whoEndedSYNs() string {
	for _, r := range a.Rows {
		if r.Kind != "SYN" {
			continue
		}
		var parts []string
		for i, n := range r.Ended {
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d of %d SYNs %s", n, r.Sent, strings.Replace(a.Places[i], "dropped by", "were dropped by", 1)))
			}
		}
		if len(parts) > 0 {
			return strings.Join(parts, ", ") + "."
		}
	}
	return "Not every connection got in, and no SYN was seen to end on the way."
}
