package timewait

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/recycle"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// sameAddress is the situation that tcp_tw_recycle is about: a connection has ended, and
// the same address connects again from another port, so that its SYN meets no TIME_WAIT.
// If there is a second client behind the same MASQUERADE gateway, that one connects.
type sameAddress struct {
	// Recycle is the value of tcp_tw_recycle on the nodes of Role, if they have it, or
	// "untouched".
	Recycle string
	Role    lab.Role
	// ClientCloses: the client closes the first connection first.
	ClientCloses bool
	// Clock is the second connection's timestamp clock compared with the last timestamp of
	// the first: Older or Newer by 10000 s. It means nothing if timestamps are off on
	// either side.
	Clock situation.Order
	// SecondNoTimestamps: the second SYN has no timestamps.
	SecondNoTimestamps bool
	// Outside: it comes after the 60 s for which an address is remembered
	// (TCP_PAWS_MSL).
	Outside bool
	// Emulate, if it is set, replaces the sysctl by an emulation.
	Emulate *recycle.Config
}

// Drive sets the sysctl, creates the situation, and lets the second client connect once. If
// the sysctl cannot be set, the cell continues without it.
func (s sameAddress) Drive(ctx context.Context, l *lab.Lab) (claim.Seen, error) {
	state, standIns, err := s.setRecycle(ctx, l)
	if err != nil {
		return claim.Seen{}, err
	}
	clients := l.Nodes(lab.Client)
	first := s.connection(l, clients[0], situation.SourcePort)
	second := s.connection(l, clients[len(clients)-1], situation.SourcePort+1)
	err = l.Capture(clients[0].Identity().Name, clients[len(clients)-1].Identity().Name, string(lab.Balancer))
	if err != nil {
		return claim.Seen{}, err
	}
	if first.Listener, err = first.Balancer.Listen(ctx, tcp.ListenSpec{}); err != nil {
		return claim.Seen{}, err
	}
	second.Listener = first.Listener
	began := time.Now()
	timeWait, last, err := s.leave(ctx, first, second, standIns)
	if err != nil {
		return claim.Seen{}, fmt.Errorf("first connection: %w", err)
	}
	if err := s.pause(ctx); err != nil {
		return claim.Seen{}, err
	}
	if s.SecondNoTimestamps {
		if err := second.Second.SetSysctl(ctx, "net.ipv4.tcp_timestamps", "0"); err != nil {
			return claim.Seen{}, err
		}
	}
	dropped, err := standIns.drops()
	if err != nil {
		return claim.Seen{}, err
	}
	var met situation.FiveTupleSeen
	if err := second.Meet(ctx, 0, &met); err != nil {
		return claim.Seen{}, fmt.Errorf("second connection: %w", err)
	}
	if took := time.Since(began); !s.Outside && took > situation.TimeWaitLength-time.Second {
		return claim.Seen{}, fmt.Errorf("second connection: %w: %v after the first began, when its address may be forgotten", situation.ErrTooLate, took)
	}
	droppedNow, err := standIns.drops()
	if err != nil {
		return claim.Seen{}, err
	}
	seen, err := s.judgeClocks(met, last)
	seen.Note("tcp_tw_recycle", state)
	seen.Note("time-wait", timeWait)
	seen.Count("passive rejects", kernel.PAWSPassive.Of(met.Balancer)+int64(droppedNow-dropped))
	has := met.Balancer
	if s.Role == lab.Client {
		has = met.Client
	}
	counter := "none"
	if kernel.PAWSPassive.On(has) {
		counter = "there"
	}
	seen.Note("passive counter", counter)
	return seen, err
}

// connection is the five-tuple of one client and one port.
func (s sameAddress) connection(l *lab.Lab, client node.Node, port uint16) situation.FiveTupleRun {
	return situation.FiveTupleRun{
		Lab: l, First: client, Second: client, Gateway: l.Gateway(), Balancer: l.Balancer(),
		Translate: l.Topology().Gateway.Kind == lab.Masquerade, Port: port,
	}
}

// setRecycle sets the sysctl on the nodes of the role, or starts the emulation there, and
// returns what came of it.
func (s sameAddress) setRecycle(ctx context.Context, l *lab.Lab) (state string, standing standIns, err error) {
	switch s.Recycle {
	case "untouched":
		return s.Recycle, nil, nil
	case "1", "0":
	default:
		return "", nil, fmt.Errorf("tcp_tw_recycle: %q is neither untouched nor 1 nor 0", s.Recycle)
	}
	standing = standIns{}
	for _, n := range l.Nodes(s.Role) {
		name := n.Identity().Name
		switch {
		case s.Emulate == nil:
			state, err = situation.SysctlState(n.SetSysctl(ctx, "net.ipv4.tcp_tw_recycle", s.Recycle))
		case s.Recycle == "1":
			state = situation.SysctlThere
			standing[name], err = recycle.Attach(ctx, l, name, *s.Emulate)
		default:
			state = situation.SysctlThere // and off, which needs no emulation
		}
		if err != nil {
			return "", nil, err
		}
	}
	if state == situation.SysctlThere {
		state = "set"
	}
	return state, standing, nil
}

// standIns are the emulations of tcp_tw_recycle in a lab, by the name of the node.
type standIns map[string]*recycle.Emulation

// drops is how many SYNs they have dropped.
func (s standIns) drops() (sum uint64, err error) {
	for _, e := range s {
		n, err := e.Drops()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// shorten returns the length of the TIME_WAIT. If an emulation runs at the node, it first
// waits until the emulation has removed the TIME_WAIT early, or has decided to leave it.
func (s standIns) shorten(ctx context.Context, at node.Node, local, remote netip.AddrPort, length string) (string, error) {
	e, stands := s[at.Identity().Name]
	if !stands {
		return length, nil
	}
	err := observe.Await(ctx, "the emulation to take the TIME_WAIT away or leave it", func() (bool, error) {
		shorter, known := e.TimeWait(local, remote)
		if !known || shorter == 0 {
			return known, nil
		}
		all, err := at.Sockets(ctx)
		if len(all.Between(local, remote)) > 0 {
			return false, err
		}
		length = situation.RecycledTimeWait
		return true, err
	})
	return length, err
}

// leave lets the first client connect, sets its clock so that the second one's is older or
// newer, and closes the connection. It tells how long the TIME_WAIT lasts, and the last
// timestamp that the balancer saw.
func (s sameAddress) leave(ctx context.Context, first, second situation.FiveTupleRun, standing standIns) (timeWait string, last *uint32, err error) {
	clock, shared, err := second.Probe(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("probe the second clock: %w", err)
	}
	out, err := situation.Connect(ctx, first.First, tcp.Attempt{To: first.Listener.Addr, From: first.From()})
	if err != nil {
		return "", nil, err
	}
	conn, err := situation.Accept(ctx, first.Balancer, first.Listener, first.Outside())
	if err != nil {
		return "", nil, err
	}
	if shared && !s.SecondNoTimestamps {
		first.Clock = s.Clock
		if err := first.Steer(ctx, clock, out.Conn, conn); err != nil {
			return "", nil, err
		}
	}
	if timeWait, err = first.Part(ctx, s.ClientCloses, out, conn); err != nil {
		return "", nil, err
	}
	closer, local, remote := first.Balancer, first.Listener.Addr, first.Outside()
	if s.ClientCloses {
		closer, local, remote = first.First, out.Local, first.Listener.Addr
	}
	if timeWait, err = standing.shorten(ctx, closer, local, remote, timeWait); err != nil || !shared {
		return timeWait, nil, err
	}
	value, err := first.LastShown()
	return timeWait, &value, err
}

// pause waits until the address is forgotten, if the cell needs that.
func (s sameAddress) pause(ctx context.Context) error {
	if !s.Outside {
		return nil
	}
	// Whole seconds are compared (get_seconds, tcp_ts_stamp).
	until := time.Now().Add(situation.TimeWaitLength + 2*time.Second)
	return observe.Await(ctx, "the end of 60 s", func() (bool, error) { return !time.Now().Before(until), nil })
}

// judgeClocks notes what was seen, and returns an error if the clocks are not as wanted.
func (s sameAddress) judgeClocks(met situation.FiveTupleSeen, last *uint32) (claim.Seen, error) {
	if last == nil || s.SecondNoTimestamps {
		return met.Observations(), nil
	}
	if len(met.SYNs.SYNs) == 0 {
		return met.Observations(), errors.New("no SYN of the second connection was recorded")
	}
	met.Clocks = situation.CompareClocks(*last, met.SYNs.SYNs[0].Timestamp.Value)
	if met.Clocks == situation.Wrapped {
		met.Clocks = situation.Newer
	}
	if met.Clocks != s.Clock {
		return met.Observations(), fmt.Errorf("the second SYN's timestamp is %s against %d, want %s", met.Clocks, *last, s.Clock)
	}
	return met.Observations(), nil
}

// sameAddressEvidence is what [sameAddress.Drive] notes: the same about the second connection
// as family tuple, and what happened to the sysctl.
func sameAddressEvidence() []claim.Evidence {
	return append(situation.TupleEvidence(), situation.RecycleEvidence, situation.TimeWaitEvidence, situation.PassiveRejectsEvidence,
		claim.Evidence{
			Name: "passive counter", Unit: "there or none", Means: "whether the kernel of the node that sets tcp_tw_recycle has the counter PAWSPassive",
		})
}
