//go:build linux

// Package load makes many clients connect at a rate and counts the outcomes.
//
// The clients are nodes of a lab, and each attempt is one connect(2). Attempts start on a
// schedule and do not wait for the answers to earlier ones (an open loop), so that a slow
// network gets no less load. The result says how well the schedule was kept.
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

// Plan says which clients connect where, how often, and what is observed meanwhile.
type Plan struct {
	// Clients connect in rounds: in each round every client connects once, in an order that
	// Seed determines.
	Clients []node.Node
	// Attempt is the attempt of every client: destination, source and ending.
	Attempt tcp.Attempt

	// Each is the number of attempts of every client. With a Rate they start at that rate,
	// without one as fast as InFlight permits.
	Each int
	// Rate is the number of attempts per second that all clients together start. Without
	// Each, they do so for the Duration.
	Rate     float64
	Duration time.Duration

	// InFlight is the maximum number of attempts under way at once; 0 means
	// [DefaultInFlight]. At the maximum, an attempt that is due waits and falls behind the
	// schedule. Attempts that one client starts in the same millisecond all count until the
	// last of them is over.
	InFlight int
	// Seed determines the order of the clients: the same Seed gives the same order.
	Seed uint64

	// Watched are the other nodes whose counters and tables are read: the
	// gateway, the balancer.
	Watched []node.Node
	// Interval is the length of one row of the series; 0 means [DefaultInterval].
	Interval time.Duration
	// Progress, when it is set, is called with each row at its end, with what is known by
	// then.
	Progress func(Row)
	// Ended, when it is set, is called with attempts that are over, by several goroutines at
	// once. It should return soon: their places among those InFlight are taken until then.
	Ended func([]Over)
}

// Over is an attempt that is over.
type Over struct {
	Client         node.Node
	Began, Decided time.Time
	Result         tcp.Result
}

// The defaults of a Plan.
const (
	DefaultInFlight = 1000
	DefaultInterval = time.Second
)

// Attempts returns the number of attempts of the plan.
func (p Plan) Attempts() int {
	if p.Each > 0 {
		return p.Each * len(p.Clients)
	}
	return int(math.Round(p.Rate * p.Duration.Seconds()))
}

// Validate returns everything that is wrong with the plan, and an error when this process
// may open too few descriptors for it.
func (p Plan) Validate() error {
	var errs []error
	if len(p.Clients) == 0 {
		errs = append(errs, errors.New("no clients"))
	}
	if !p.Attempt.To.IsValid() {
		errs = append(errs, errors.New("no destination: give Attempt.To"))
	}
	errs = append(errs, p.numbers()...)
	if len(errs) == 0 {
		errs = append(errs, p.descriptors())
	}
	return joined(errs)
}

// ValidateNumbers returns what is wrong with the numbers of a plan that has no clients yet.
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

// descriptors returns an error when the plan needs more descriptors than this process may
// open.
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

// MostInFlight returns the number of attempts at once that this process has descriptors
// for; at most the number of attempts of the plan.
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

// descriptorsEach is the number of descriptors of this process that a connection needs. The
// sockets of guests do not count.
func (p Plan) descriptorsEach() (n int) {
	local := func(n node.Node) bool { _, is := n.(*node.Local); return is }
	for _, ends := range [][]node.Node{p.Clients, p.Watched} {
		if slices.ContainsFunc(ends, local) {
			n++
		}
	}
	return n
}

// openDescriptors returns the number of descriptors that this process has open or needs for
// itself, and its limit.
func openDescriptors() (taken int, limit uint64, err error) {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, 0, fmt.Errorf("count descriptors: %w", err)
	}
	const spare = 64 // for reading counters and tables
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &most); err != nil {
		return 0, 0, fmt.Errorf("limit of descriptors: %w", err)
	}
	return len(open) + spare, most.Cur, nil
}
