package client

import (
	"twlab/harness/lab"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// vip is where the balancer listens.
var vip = script.Endpoint{Name: "vip", Port: 80}

// The names of the steps that connect.
const (
	stepFirst  = "first"
	stepSecond = "second"
)

// keeps is a connection that stays open.
func keeps(from, to script.Endpoint) script.Connect {
	return script.Connect{From: from, To: to, Then: script.ThenKeep}
}

// negotiationTell tells a cell of the family: what negotiate does in Go, as steps. Which segments
// have the option, files have no word for: what they tell is whether the connection has timestamps.
func negotiationTell(c claim.Cell) (situation.Told, error) {
	from, at, to := "client0", string(lab.Balancer), vip
	if c.Either(opener, openerBalancer, openerClient) {
		from, at, to = string(lab.Balancer), "client0", script.Endpoint{Name: "client0", Port: vip.Port}
	}
	var steps situation.Steps
	steps.Do(script.Listen{Node: at, Port: to.Port})
	steps.As(stepFirst, keeps(script.Endpoint{Name: from}, to))
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{"in use": situation.TellTimestamps}}, nil
}

// clockTell tells a cell of the family: what twoClocks does in Go, as steps. The first connection is
// reset when its clock was read, so that the second one can be from the same port.
func clockTell(c claim.Cell) (situation.Told, error) {
	first := script.Endpoint{Name: "client0", Port: situation.SourcePort}
	second := first
	switch c.Value(compared) {
	case sameTuple: // the same host and port
	case otherPort:
		second.Port++
	case otherHost:
		second.Name = "client1"
	}
	var steps situation.Steps
	steps.Do(script.Listen{Node: string(lab.Balancer), Port: vip.Port})
	steps.As(stepFirst, keeps(first, vip), situation.Connects()...)
	steps.Do(script.Reset{Conn: script.Conn{Step: stepFirst}})
	steps.As(stepSecond, keeps(second, vip), situation.Connects()...)
	return situation.Told{Steps: steps, Evidence: map[string]situation.Teller{
		situation.TimestampsEvidence.Name: situation.TellTimestamps, "offset": tellOffset,
	}}, nil
}

// tellOffset expects that the second connection has the clock of the first one, or another. That it
// has none, "timestamps" says.
func tellOffset(e claim.Expectation, to *[]script.Expectation) bool {
	switch e.OneOf[0] {
	case "same":
		(*to)[0].SameClock = stepFirst
	case "different":
		(*to)[0].OtherClock = stepFirst
	}
	return true
}
