//go:build linux

package play

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"twlab/harness/observe"
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

// noteClock reads the clock of a new connection if a later step compares another one with it.
func (p *player) noteClock(ctx context.Context, id string) error {
	for _, s := range p.scenario.Steps {
		if a, ok := s.Do.(script.Clock); !ok || id == "" || id != a.Beyond && id != a.Behind {
			continue
		}
		c, err := p.conn(id)
		if err != nil {
			return err
		}
		c.clock.ClockReading, err = c.node.Clock(ctx, c.handle)
		c.clock.taken = time.Now()
		return err
	}
	return nil
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
