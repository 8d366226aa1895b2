//go:build linux

// Package load drives many clients at a rate and counts what came of it.
//
// The clients are nodes of a lab, each attempt is one connect(2). Attempts are
// begun by a schedule of their own and not by the answers to those before (an open
// loop), so that a network that falls behind is not spared; how well the schedule
// was kept is part of the result.
package load

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/node"
	"twlab/harness/tcp"
)

// Plan says who connects where, how often, and what is watched meanwhile.
type Plan struct {
	// Clients connect in turns: in each round every one of them once, in an
	// order that Seed decides.
	Clients []node.Node
	// Attempt is what each of them does: where to, from where, and the ending.
	Attempt tcp.Attempt

	// Each is how many attempts every client makes in all. With a Rate they are
	// begun at that rate, without one as fast as InFlight lets them.
	Each int
	// Rate is how many attempts all clients together begin in a second. Without
	// Each, they do so for the Duration.
	Rate     float64
	Duration time.Duration

	// InFlight is the most attempts that may be under way at once; 0 means
	// [DefaultInFlight]. An attempt whose time has come then waits, and is
	// behind the schedule. Those that one client begins in the same
	// millisecond count until the last of them is over.
	InFlight int
	// Seed makes the order of the clients the same again.
	Seed uint64

	// Watched are the other nodes whose counters and tables are read: the
	// gateway, the balancer.
	Watched []node.Node
	// Interval is the time that one row of the series stands for; 0 means
	// [DefaultInterval].
	Interval time.Duration
	// Progress, when it is set, is called with each row as soon as its time is
	// over, with what is known by then.
	Progress func(Row)
}

// The defaults of a Plan.
const (
	DefaultInFlight = 1000
	DefaultInterval = time.Second
)

// Attempts is how many attempts the plan has.
func (p Plan) Attempts() int {
	if p.Each > 0 {
		return p.Each * len(p.Clients)
	}
	return int(math.Round(p.Rate * p.Duration.Seconds()))
}

// Validate says what is wrong with the plan, all of it at once, and whether this
// process may open the descriptors that it takes.
func (p Plan) Validate() error {
	var errs []error
	if len(p.Clients) == 0 {
		errs = append(errs, errors.New("no clients"))
	}
	if !p.Attempt.To.IsValid() {
		errs = append(errs, errors.New("no listener: give Attempt.To"))
	}
	errs = append(errs, p.numbers()...)
	if len(errs) == 0 {
		errs = append(errs, p.descriptors())
	}
	return joined(errs)
}

// ValidateNumbers says what is wrong with the numbers of a plan that has no clients yet.
func (p Plan) ValidateNumbers() error { return joined(p.numbers()) }

func joined(errs []error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

func (p Plan) numbers() (errs []error) {
	bad := func(err error) { errs = append(errs, err) }
	switch {
	case p.Each < 0:
		bad(fmt.Errorf("%d attempts for each client: want at least 1", p.Each))
	case p.Rate < 0 || math.IsNaN(p.Rate) || math.IsInf(p.Rate, 0):
		bad(fmt.Errorf("%v attempts per second: want more than 0", p.Rate))
	case p.Duration < 0:
		bad(fmt.Errorf("for %v: want more than 0", p.Duration))
	case p.Each > 0 && p.Duration > 0:
		bad(fmt.Errorf("both a number of attempts (%d each) and a duration (%v): give one of them", p.Each, p.Duration))
	case p.Each == 0 && p.Duration == 0:
		bad(errors.New("no end: give a number of attempts for each client, or a rate and a duration"))
	case p.Each == 0 && p.Rate == 0:
		bad(fmt.Errorf("for %v, but no rate: give attempts per second", p.Duration))
	case p.Each == 0 && p.Attempts() == 0:
		bad(fmt.Errorf("%v attempts per second for %v make none", p.Rate, p.Duration))
	}
	if p.InFlight < 0 {
		bad(fmt.Errorf("%d in flight: want at least 1, or 0 for %d", p.InFlight, DefaultInFlight))
	}
	if p.Interval < 0 {
		bad(fmt.Errorf("interval %v: want more than 0", p.Interval))
	}
	return errs
}

func (p Plan) inFlight() int {
	if p.InFlight == 0 {
		return DefaultInFlight
	}
	return p.InFlight
}

func (p Plan) interval() time.Duration {
	if p.Interval == 0 {
		return DefaultInterval
	}
	return p.Interval
}

// descriptors refuses a plan that this process has too few descriptors for.
func (p Plan) descriptors() error {
	atOnce := min(p.inFlight(), p.Attempts())
	if p.Attempt.Ending == tcp.KeepOpen {
		atOnce = p.Attempts()
	}
	each := p.descriptorsEach()
	if each == 0 {
		return nil
	}
	taken, limit, err := openDescriptors()
	if err != nil {
		return err
	}
	if need := uint64(taken + atOnce*each); need > limit {
		return fmt.Errorf("%d connections at once need %d descriptors, and this process may open %d: "+
			"raise the limit (ulimit -n %d), or have fewer in flight", atOnce, need, limit, need)
	}
	return nil
}

// MostInFlight is for how many attempts at once this process has descriptors: all of
// the plan's, if it can be.
func (p Plan) MostInFlight() (int, error) {
	all := p.Attempts()
	each := p.descriptorsEach()
	if each == 0 {
		return all, nil
	}
	taken, limit, err := openDescriptors()
	if err != nil {
		return 0, err
	}
	room := (int64(min(limit, math.MaxInt64)) - int64(taken)) / int64(each)
	return int(max(1, min(int64(all), room))), nil
}

// descriptorsEach is how many descriptors of this process a connection takes. The
// sockets of guests are not among them.
func (p Plan) descriptorsEach() (n int) {
	local := func(n node.Node) bool { _, is := n.(*node.Local); return is }
	for _, ends := range [][]node.Node{p.Clients, p.Watched} {
		if slices.ContainsFunc(ends, local) {
			n++
		}
	}
	return n
}

// openDescriptors is how many descriptors this process has and needs for itself, and
// how many it may have.
func openDescriptors() (taken int, limit uint64, err error) {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, 0, fmt.Errorf("count descriptors: %w", err)
	}
	const spare = 64 // for looking at observations
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &most); err != nil {
		return 0, 0, fmt.Errorf("limit of descriptors: %w", err)
	}
	return len(open) + spare, most.Cur, nil
}
