//go:build linux

package play

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"twlab/harness/observe"
	"twlab/harness/recording"
	"twlab/harness/script"
	"twlab/harness/tcp"
)

// clock advances the timestamp clock of a connection. Its ticks are milliseconds (Linux 4.13).
func (p *player) clock(ctx context.Context, a script.Clock) (Result, error) {
	e, err := p.endOf(ctx, a.Conn)
	switch {
	case err != nil:
		return Result{}, err
	case a.Beyond != "" || a.Behind != "":
		return Result{}, p.steer(ctx, a, e)
	case a.Back != 0:
		return Result{}, e.node.AdvanceClock(ctx, e.handle, int32(-a.Back.Milliseconds())) //nolint:gosec // at most a day
	default:
		return Result{}, e.node.AdvanceClock(ctx, e.handle, int32(a.Advance.Milliseconds())) //nolint:gosec // at most a day
	}
}

// reading is a reading of the clock of a connection, and the time of the reading by the clock
// of this process: guests have no common time.
type reading struct {
	tcp.ClockReading
	taken time.Time
}

// noteClock reads the clock of a new connection if a step compares another one with it.
func (p *player) noteClock(ctx context.Context, id string) error {
	if !p.comparesClock(id) {
		return nil
	}
	c, err := p.conn(id)
	if err != nil {
		return err
	}
	c.clock.ClockReading, err = c.node.Clock(ctx, c.handle)
	c.clock.taken = time.Now()
	return err
}

// comparesClock reports whether a step compares the clock of the connection that a step makes.
func (p *player) comparesClock(id string) bool {
	if id == "" {
		return false
	}
	return slices.ContainsFunc(p.scenario.Steps, func(s script.Step) bool {
		if a, ok := s.Do.(script.Clock); ok && (id == a.Beyond || id == a.Behind) {
			return true
		}
		return slices.ContainsFunc(s.Expect, func(e script.Expectation) bool {
			compares := e.SameClock != "" || e.OtherClock != ""
			return compares && (id == connects(s) || id == e.SameClock || id == e.OtherClock)
		})
	})
}

// connects is the ID of the step whose connection an expectation of a step is about.
func connects(s script.Step) string {
	if a, ok := s.Do.(script.Await); ok {
		return a.Step
	}
	return s.ID
}

// judgeClocks adds to the findings of a step what its expectations say of clocks.
func (p *player) judgeClocks(step script.Step, i int) error {
	for _, e := range step.Expect {
		if e.SameClock == "" && e.OtherClock == "" {
			continue
		}
		applies, _, err := p.applies(e.When)
		if err != nil {
			return err
		}
		if !applies {
			continue
		}
		for _, one := range []struct {
			what, wanted, other string
			same                bool
		}{{"same-clock", "that of ", e.SameClock, true}, {"other-clock", "not that of ", e.OtherClock, false}} {
			if one.other == "" {
				continue
			}
			seen, same := p.compareClocks(one.other, connects(step))
			p.recording.Steps[i].Findings = append(p.recording.Steps[i].Findings, recording.Finding{
				What: one.what, Wanted: one.wanted + one.other, Seen: seen, Met: seen != noClock && same == one.same,
			})
		}
	}
	return nil
}

// noClock is what is seen of a connection without timestamps, or of none.
const noClock = "no clock"

// compareClocks compares the clocks of two connections: how far the second is ahead of where the
// first one's would be. Two clocks that have nothing in common are that near to each other once in
// a million times.
func (p *player) compareClocks(first, second string) (seen string, same bool) {
	one, failed := p.conn(first)
	other, alsoFailed := p.conn(second)
	if failed != nil || alsoFailed != nil || !one.timestamps || !other.timestamps {
		return noClock, false
	}
	const slack = 1000 // ticks, of a millisecond or more: a reading takes time
	between := other.clock.taken.Sub(one.clock.taken).Milliseconds()
	ahead := int64(int32(other.clock.Ticks - one.clock.Ticks)) // in the arithmetic of timestamps
	if ahead >= -slack && ahead <= between+slack {
		return "that of " + first, true
	}
	return fmt.Sprintf("one that is %d ticks off", ahead-between), false
}

// clockStep is less than half of all values of the clock: more would be a step back.
const clockStep uint32 = 1 << 30

// steer advances the clock of a connection until it differs from that of another one as it
// should. A clock can only be set forward, if need be all the way round; the server learns of
// the new values step by step.
func (p *player) steer(ctx context.Context, a script.Clock, client end) error {
	other, err := p.conn(cmp.Or(a.Beyond, a.Behind))
	if err != nil {
		return err
	}
	server, err := p.endOf(ctx, script.Conn{Step: a.Conn.Step, Server: true})
	if err != nil {
		return err
	}
	lead := a.Advance.Milliseconds()
	if a.Behind != "" {
		lead = -lead
	}
	now, err := client.node.Clock(ctx, client.handle)
	if err != nil {
		return err
	}
	passed := time.Since(other.clock.taken).Milliseconds()
	// The other clock as it is now, and its lead, in the arithmetic of timestamps.
	ahead := (other.clock.Ticks + uint32(passed+lead) - now.Ticks) &^ 1 //nolint:gosec // modulo 2^32
	for ahead > 0 {
		step := min(ahead, clockStep)
		if err := client.node.AdvanceClock(ctx, client.handle, int32(step)); err != nil { //nolint:gosec // at most 2^30
			return err
		}
		ahead -= step
		if _, err := server.node.Send(ctx, server.handle, 1); err != nil {
			return err
		}
		err := observe.Await(ctx, fmt.Sprintf("the ACK of a byte to %v", server.remote), func() (bool, error) {
			all, err := server.node.Sockets(ctx)
			mine := all.Between(server.local, server.remote)
			return len(mine) == 1 && mine[0].SendQueue == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
