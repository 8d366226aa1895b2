package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
)

// Length is the family of how long TIME_WAIT lasts, and whether tcp_fin_timeout
// has a say in it.
func Length() Family {
	const (
		fin    = "fin-timeout"
		closer = "closer"
		ts     = "ts"
		look   = "look"
		client = "client"
		lb     = "lb"
		early  = "beginning"
		late   = "end"
	)
	// The one constant, and what changes beside it.
	lasts := func(half, halfLasts string) []Expectation {
		return []Expectation{
			Is("time-wait", "60 s"), Is("fin-wait-2 lasts", halfLasts), Is("fin-wait-2", half),
			Is("peer", "nothing"), Is("at the end", "not waited for"),
		}
	}
	over := func(before string) []Expectation {
		return []Expectation{
			Is("time-wait", "60 s"), Is("at the end", "gone"), Is("gone after", "60 s"),
			Is("verdict before", before), Is("verdict afterwards", string(tcp.Connected)), Exactly("ports taken over", 0),
			Is("peer", "nothing"), AtLeast("time-waits counted", 1),
		}
	}
	const minisocket = "minisocket"
	const constant = "TCP_TIMEWAIT_LEN, tcp_time_wait"
	return Family{
		Name:     "length",
		Evidence: lengthEvidence(),
		About: "A connection is closed, and tcp_fin_timeout has some value: " +
			"how long does the socket that closed first stay in TIME_WAIT?",
		Axes: []Axis{
			{Name: fin, Values: []string{"60", "1", "5", "120"}, Product: true,
				Means: "tcp_fin_timeout of the side that closes first, in seconds"},
			{Name: closer, Values: []string{client, lb}, Product: true, Means: "who closes first"},
			{Name: ts, Values: []string{"1", "0"}, Product: true, Knob: Knob{Role: lab.Client, Sysctl: "net.ipv4.tcp_timestamps"},
				Means: "tcp_timestamps of the client: whether the connection has timestamps"},
			{Name: look, Values: []string{early, late},
				Means: "whether the kernel's own timer is read when TIME_WAIT begins, or its end is waited for"},
		},
		Waits: []Wait{{Cells{{look: {late}}}, TimeWaitLength}},
		Rules: []Rule{
			{
				Name: "length-over-port-free", Cells: Cells{{look: {late}, closer: {client}}},
				Want: over(string(tcp.NoPort)),
				Because: "the client's only port is taken until its TIME_WAIT has run for 60 s, whatever tcp_fin_timeout says, " +
					"and free from then on",
				Source: constant + ", __inet_check_established",
			},
			{
				Name: "length-over", Cells: Cells{{look: {late}, closer: {lb}}}, Want: over("not tried"),
				Because: "the balancer's TIME_WAIT has run for 60 s, whatever tcp_fin_timeout says, and the five-tuple is new again",
				Source:  constant,
			},
			{
				Name: "length-fin-timeout-60", Cells: Cells{{fin: {"60"}}},
				Want:    lasts(minisocket, "60 s"),
				Because: "both are 60 s by default, which is why tcp_fin_timeout is taken for the length of TIME_WAIT",
				Source:  "TCP_TIMEWAIT_LEN and TCP_FIN_TIMEOUT, include/net/tcp.h",
			},
			{
				Name: "length-fin-timeout-1", Cells: Cells{{fin: {"1"}}},
				Want:    lasts(minisocket, "1 s"),
				Because: "tcp_fin_timeout=1 shortens FIN_WAIT2 of a socket that nobody owns to 1 s; TIME_WAIT is a constant",
				Source:  constant + ", tcp_fin_time; rounded up to a slot (inet_twsk_schedule before Linux 4.1)",
			},
			{
				Name: "length-fin-timeout-5", Cells: Cells{{fin: {"5"}}},
				Want:    lasts(minisocket, "5 s"),
				Because: "tcp_fin_timeout=5 shortens FIN_WAIT2 of a socket that nobody owns to 5 s; TIME_WAIT is a constant",
				Source:  constant + ", tcp_fin_time; rounded up to a slot (inet_twsk_schedule before Linux 4.1)",
			},
			{
				Name: "length-fin-timeout-120", Cells: Cells{{fin: {"120"}}},
				Want: lasts("full socket", "60 s"),
				Because: "tcp_fin_timeout=120 does not lengthen TIME_WAIT; what it has above 60 s FIN_WAIT2 spends as a full socket, " +
					"whose timer says 120 s - 60 s, before a minisocket takes the other 60 s",
				Source: constant + "; tcp_rcv_state_process: tmo > TCP_TIMEWAIT_LEN; up to 1/256 more before Linux 4.8 (apply_slack)",
			},
		},
		Topology: func(c Cell) lab.Topology {
			role := lab.Client
			if c.Is(closer, lb) {
				role = lab.Balancer
			}
			t := lab.Topology{Clients: 1, Sysctls: lab.On(role, "net.ipv4.tcp_fin_timeout="+c.Value(fin))}
			if c.Is(look, late) {
				// One port, so that it is the same one that is wanted again.
				t.Sysctls = t.Sysctls.On(lab.Client, "net.ipv4.ip_local_port_range=40000 40000", "net.ipv4.tcp_tw_reuse=0")
			}
			return t
		},
		Drive: func(ctx context.Context, c Cell, l *lab.Lab) (Seen, error) {
			s := sides{client: l.Client(0), balancer: l.Balancer(), byClient: c.Is(closer, client)}
			drive := s.beginning
			if c.Is(look, late) {
				drive = s.end
			}
			seen, err := drive(ctx)
			if err != nil {
				return seen, fmt.Errorf("length: %w", err)
			}
			return seen, nil
		},
	}
}

// sides are the two sides of the connections of the family Length.
type sides struct {
	client, balancer node.Node
	byClient         bool // the client closes first
	door             node.Listening
}

// lasts says how long the closer's timer lasts, which was set since it began.
func (e sides) lasts(ctx context.Context, left observe.Socket, began time.Time) (string, error) {
	elapsed := time.Since(began)
	release, err := e.closer().Release(ctx)
	return lasting(release, left.Expires, elapsed), err
}

// closer is the node that closes first, other the other one.
func (e sides) closer() node.Node {
	if e.byClient {
		return e.client
	}
	return e.balancer
}

func (e sides) other() node.Node {
	if e.byClient {
		return e.balancer
	}
	return e.client
}

// sidesConn is one connection: the closer's socket with its two addresses, and the
// other side's.
type sidesConn struct {
	mine, theirs  tcp.Handle
	local, remote netip.AddrPort
}

// open connects, from a port that the client's kernel chooses.
func (e sides) open(ctx context.Context) (sidesConn, error) {
	out, err := connect(ctx, e.client, tcp.Attempt{To: e.door.Addr})
	if err != nil {
		return sidesConn{}, err
	}
	accepted, err := accept(ctx, e.balancer, e.door, out.Local)
	if err != nil {
		return sidesConn{}, err
	}
	if e.byClient {
		return sidesConn{mine: out.Conn, theirs: accepted, local: out.Local, remote: e.door.Addr}, nil
	}
	return sidesConn{mine: accepted, theirs: out.Conn, local: e.door.Addr, remote: out.Local}, nil
}

// beginning leaves a TIME_WAIT and a FIN_WAIT2 and reads the timers of both.
func (e sides) beginning(ctx context.Context) (seen Seen, err error) {
	if e.door, err = e.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	if _, err := e.timeWait(ctx, &seen); err != nil {
		return seen, err
	}
	seen.Note("at the end", "not waited for")
	half, err := e.open(ctx)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	if err := e.closer().End(ctx, half.mine, tcp.CloseNow); err != nil {
		return seen, err
	}
	left, err := e.await(ctx, half, observe.FinWait2)
	if err != nil {
		return seen, err
	}
	kind := "full socket"
	if left.Mini() {
		kind = "minisocket"
	}
	seen.Note("fin-wait-2", kind)
	lasts, err := e.lasts(ctx, left, began)
	seen.Note("fin-wait-2 lasts", lasts)
	return seen, err
}

// end leaves a TIME_WAIT, waits until it is gone, and connects again.
func (e sides) end(ctx context.Context) (seen Seen, err error) {
	if e.door, err = e.balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return seen, err
	}
	count, err := countMoves(ctx, e.closer(), e.client)
	if err != nil {
		return seen, err
	}
	began := time.Now()
	over, err := e.timeWait(ctx, &seen)
	if err != nil {
		return seen, err
	}
	there := time.Now()
	before := "not tried"
	if e.byClient {
		if before, err = e.verdictNow(ctx); err != nil {
			return seen, err
		}
	}
	seen.Note("verdict before", before)
	var still time.Duration
	err = observe.Await(ctx, "the end of TIME_WAIT", func() (bool, error) {
		looked := time.Since(there)
		all, err := e.closer().Sockets(ctx)
		if len(all.Between(over.local, over.remote)) == 0 {
			return true, err
		}
		still = looked
		return false, err
	})
	gone := time.Since(began)
	if err != nil {
		return seen, err
	}
	release, err := e.closer().Release(ctx)
	if err != nil {
		return seen, err
	}
	seen.Note("at the end", "gone")
	seen.Note("gone after", goneAfter(release, still, gone))
	afterwards, err := e.verdictNow(ctx)
	if err != nil {
		return seen, err
	}
	seen.Note("verdict afterwards", afterwards)
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	// With a tcp_fin_timeout of up to 4 s, a TIME_WAIT that was a minisocket in
	// FIN_WAIT2 before counts as TWKilled (inet_twsk_schedule).
	seen.Count("time-waits counted", timeWaits.of(moved[0])+timeWaitsKilled.of(moved[0]))
	seen.Count("ports taken over", timeWaitsReused.of(moved[1]))
	return seen, nil
}

// verdictNow is what comes of a connection now. It is reset at once.
func (e sides) verdictNow(ctx context.Context) (string, error) {
	outs, err := e.client.Attempt(ctx, []tcp.Attempt{{To: e.door.Addr, Ending: tcp.Abort}})
	if err != nil {
		return "", err
	}
	return string(outs[0].Verdict), nil
}

// timeWait has both sides close a connection and notes what the closer has of it
// then, and what the other side has.
func (e sides) timeWait(ctx context.Context, seen *Seen) (sidesConn, error) {
	closed, err := e.open(ctx)
	if err != nil {
		return closed, err
	}
	if err := e.closer().End(ctx, closed.mine, tcp.CloseNow); err != nil {
		return closed, err
	}
	began := time.Now() // TIME_WAIT begins with the other side's FIN, not before
	if err := e.other().End(ctx, closed.theirs, tcp.CloseAfterPeer); err != nil {
		return closed, err
	}
	left, err := e.await(ctx, closed, observe.TimeWait)
	if err != nil {
		return closed, err
	}
	lasts, err := e.lasts(ctx, left, began)
	if err != nil {
		return closed, err
	}
	seen.Note("time-wait", lasts)
	return closed, e.notePeer(ctx, closed, seen)
}

// await waits until the closer's socket is in a state.
func (e sides) await(ctx context.Context, of sidesConn, state observe.State) (left observe.Socket, err error) {
	err = observe.Await(ctx, fmt.Sprintf("%s at %s", state, e.closer().Identity().Name), func() (bool, error) {
		all, err := e.closer().Sockets(ctx)
		mine := all.Between(of.local, of.remote).In(state)
		if len(mine) > 0 {
			left = mine[0]
		}
		return len(mine) > 0, err
	})
	return left, err
}

// notePeer notes what the other side has of a connection that both have closed:
// its last ACK has brought the closer into TIME_WAIT, the closer's last ACK takes
// it out of LAST_ACK.
func (e sides) notePeer(ctx context.Context, of sidesConn, seen *Seen) error {
	peer := "nothing"
	err := observe.Await(ctx, "the other side to get the last ACK", func() (bool, error) {
		all, err := e.other().Sockets(ctx)
		theirs := all.Between(of.remote, of.local)
		if err != nil || len(theirs) == 0 {
			return true, err
		}
		peer = string(theirs[0].State)
		return theirs[0].State != observe.LastAck, nil
	})
	seen.Note("peer", peer)
	return err
}

// lasting tells which of the lengths that a TIME_WAIT or FIN_WAIT2 may have here
// a timer of the kernel has, that was set at most elapsed ago and still has left to
// run. It is left itself when none fits.
func lasting(on kernel.Release, left, elapsed time.Duration) string {
	for _, length := range []time.Duration{time.Second, 5 * time.Second, TimeWaitLength, 120 * time.Second} {
		if left <= length+timerExtra(on, length) && length <= left+elapsed+jiffyAtMost {
			return fmt.Sprintf("%.0f s", length.Seconds())
		}
	}
	return left.String()
}

// goneAfter tells whether a TIME_WAIT that was there for still and more, and gone after
// gone, can have lasted for 60 s. A timer fires up to 1/8 late since Linux 4.8 (timer
// wheel). Before 4.1 eight slots of 1/8 are one for all, and the first of them may be
// almost over (inet_twsk_schedule: INET_TWDR_TWKILL_SLOTS).
func goneAfter(on kernel.Release, still, gone time.Duration) string {
	least, most := TimeWaitLength-jiffyAtMost, TimeWaitLength+jiffyAtMost
	switch {
	case on.Before(4, 1):
		least -= TimeWaitLength / 8
	case !on.Before(4, 8):
		most += TimeWaitLength / 8
	}
	if gone >= least && still <= most {
		return fullTimeWait
	}
	return fmt.Sprintf("%v to %v", still, gone)
}
