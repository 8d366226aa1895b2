//go:build linux

package observe

import (
	"fmt"
	"slices"
	"strings"
)

// String describes the account in one line: "3 sent, 3 entered and 3 left gateway as
// 10.20.0.1:40001, 3 reached balancer: 1 answered by ACK, 2 by SYN-ACK; 1 RST sent, 1
// entered and 1 left gateway as 10.20.0.1:40001, 1 reached balancer".
func (a SYNAccount) String() string {
	if a.Sent == 0 {
		return "0 sent"
	}
	var syns, resets []Way
	for _, syn := range a.SYNs {
		syns = append(syns, syn.Way)
		if syn.ResetSent {
			resets = append(resets, syn.Reset)
		}
	}
	text := a.Path.count("sent", syns) + ": " + a.answers()
	if len(resets) > 0 {
		text += "; " + a.Path.count("RST sent", resets)
	}
	return text
}

// count describes how many packets came how far.
func (p Path) count(what string, ways []Way) string {
	text := fmt.Sprintf("%d %s", len(ways), what)
	for i, gateway := range p.Gateways {
		var entered, left int
		var sources []string
		for _, way := range ways {
			hop := way.Hops[i]
			entered += one(hop.Entered)
			left += one(hop.Left)
			if source := hop.As.String(); hop.Left && !slices.Contains(sources, source) {
				sources = append(sources, source)
			}
		}
		text += fmt.Sprintf(", %d entered and %d left %s", entered, left, gateway)
		if len(sources) > 0 {
			text += " as " + strings.Join(sources, " and ")
		}
	}
	if p.Server != "" {
		reached := 0
		for _, way := range ways {
			reached += one(way.Reached)
		}
		text += fmt.Sprintf(", %d reached %s", reached, p.Server)
	}
	return text
}

// answers counts the kinds of answer, in the order of their first appearance.
func (a SYNAccount) answers() string {
	type kind struct {
		answer Answer
		by     string
	}
	var kinds []kind
	given, arrived := map[kind]int{}, map[kind]int{}
	for _, syn := range a.SYNs {
		k := kind{syn.Answer, syn.AnsweredBy}
		if !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
		given[k]++
		arrived[k] += one(syn.AnswerReachedClient)
	}
	var parts []string
	verb := "answered by"
	for _, k := range kinds {
		if k.answer == NoAnswer || k.answer == AnswerLimited {
			part := fmt.Sprintf("%d not answered", given[k])
			if k.answer == AnswerLimited {
				part += " because of the rate limit"
			}
			parts = append(parts, part)
			continue
		}
		part := fmt.Sprintf("%d %s %s", given[k], verb, k.answer)
		if k.by != a.Path.Server {
			part += " from " + k.by
		}
		if arrived[k] < given[k] {
			part += fmt.Sprintf(" (%d reached the client)", arrived[k])
		}
		parts = append(parts, part)
		verb = "by"
	}
	return strings.Join(parts, ", ")
}
