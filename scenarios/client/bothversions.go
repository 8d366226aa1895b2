package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/tcp"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// The axes of the family, and whether the sysctl has its other value.
const (
	bothName    = "sysctl"
	bothSetting = "setting"

	settingOther = "other"
	settingUsual = "usual"
)

// BothVersions is the family of sysctls below net.ipv4 that act on IPv6 connections.
func BothVersions() situation.Family {
	var names []string
	for _, s := range bothSysctls() {
		names = append(names, s.name)
	}
	ip := situation.IPAxis()
	ip.Values, ip.Product = []string{"6", "4"}, true
	return situation.Family{
		Family: claim.Family{
			Name:     "bothversions",
			Evidence: bothEvidence(),
			About:    "A sysctl below net.ipv4 has its usual value or another one: does that act on connections over IPv6 as on those over IPv4?",
			Axes: []claim.Axis{
				{Name: bothName, Values: names, Product: true, Means: "the sysctl"},
				{Name: bothSetting, Values: []string{settingOther, settingUsual}, Product: true, Means: "whether it has another value, or its usual one"},
				ip,
			},
			Rules: bothRules(),
		},
		Topology: func(c claim.Cell) lab.Topology {
			s := bothSysctlOf(c)
			own := lab.Setting{Role: s.role, Name: s.name, Value: s.value(c)}
			return lab.Topology{Clients: 1, Rules: s.rules, Sysctls: append(slices.Clone(s.also), own)}
		},
		Drive: bothDrive,
		Tell:  bothTell,
	}
}

// bothSysctl is a sysctl, and how its work is seen.
type bothSysctl struct {
	name         string
	role         lab.Role // where it is set
	usual, other string
	// rules and also are rules, and other sysctls, that the situation needs.
	rules []lab.Rule
	also  lab.Settings
	drive func(*bothRun, context.Context) error
	tell  func() situation.Told // the same as steps
	// acts is what is seen with the other value, doesNot what with the usual one.
	acts, doesNot []claim.Expectation
	// cause is that of what does not go well with the other value, usualCause with the usual one.
	cause, usualCause string
	because, source   string
}

// short is its own name, as in the names of rules: "tcp-fin-timeout".
func (s bothSysctl) short() string {
	return strings.ReplaceAll(strings.TrimPrefix(s.name, "net.ipv4."), "_", "-")
}

func (s bothSysctl) value(c claim.Cell) string {
	if c.Either(bothSetting, settingUsual, settingOther) {
		return s.usual
	}
	return s.other
}

func bothSysctlOf(c claim.Cell) bothSysctl {
	all := bothSysctls()
	i := slices.IndexFunc(all, func(s bothSysctl) bool { return s.name == c.Value(bothName) })
	return all[i]
}

// bothRules say for each sysctl what its other value does, and that the usual one does not.
func bothRules() (rules []claim.Rule) {
	for _, s := range bothSysctls() {
		cells := func(setting string) claim.Cells {
			return claim.Cells{{bothName: {s.name}, bothSetting: {setting}}}
		}
		rules = append(rules,
			claim.Rule{Name: "bothversions-" + s.short(), Cells: cells(settingOther), Want: s.acts, Cause: s.cause, Because: s.because, Source: s.source},
			claim.Rule{
				Name: "bothversions-" + s.short() + "-usual", Cells: cells(settingUsual), Want: s.doesNot, Cause: s.usualCause,
				Because: "with its usual value the sysctl does not do that", Source: s.source,
			},
		)
	}
	return rules
}

// bothRun is the situation with its nodes.
type bothRun struct {
	lab              *lab.Lab
	client, balancer node.Node
	seen             *claim.Seen
}

func bothDrive(ctx context.Context, c claim.Cell, l *lab.Lab) (seen claim.Seen, err error) {
	r := &bothRun{lab: l, client: l.Client(0), balancer: l.Balancer(), seen: &seen}
	count, err := situation.CountMoves(ctx, r.client, r.balancer)
	if err != nil {
		return seen, err
	}
	if err := bothSysctlOf(c).drive(r, ctx); err != nil {
		return seen, fmt.Errorf("%s: %w", c.Value(bothName), err)
	}
	moved, err := count(ctx)
	if err != nil {
		return seen, err
	}
	seen.Moved = map[lab.Role]kernel.Counters{lab.Client: moved[0], lab.Balancer: moved[1]}
	return seen, nil
}

// connect makes one attempt to a listener of the balancer, and notes it.
func (r *bothRun) connect(ctx context.Context) (situation.Side, situation.Side, error) {
	none := situation.Side{}
	listener, err := r.balancer.Listen(ctx, tcp.ListenSpec{At: r.lab.VIP()})
	if err != nil {
		return none, none, err
	}
	result, err := r.attempt(ctx, listener.Addr)
	if err != nil || result.Outcome != tcp.Connected {
		return none, none, errors.Join(err, fmt.Errorf("%v, want a connection", result))
	}
	conn, err := situation.Accept(ctx, r.balancer, listener, result.Local)
	return situation.Side{Node: r.client, Conn: result.Conn, Local: result.Local, Remote: listener.Addr},
		situation.Side{Node: r.balancer, Conn: conn, Local: listener.Addr, Remote: result.Local}, err
}

// attempt makes one attempt, and notes it.
func (r *bothRun) attempt(ctx context.Context, to netip.AddrPort) (tcp.Result, error) {
	result, err := r.client.Connect(ctx, tcp.Attempt{To: to})
	if err == nil {
		r.seen.Note("outcome", string(result.Outcome))
		r.seen.Count("syns", int64(result.SYNs))
		r.seen.Note("timestamps", claim.YesNo(result.Timestamps))
		r.seen.Note("port in the range", claim.YesNo(result.Local.Port() == narrowPort))
	}
	return result, err
}

// plain only connects.
func (r *bothRun) plain(ctx context.Context) error {
	_, _, err := r.connect(ctx)
	return err
}

// loseSYNs leaves every attempt without an answer.
var loseSYNs = []lab.Rule{{Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-p tcp --syn -j DROP"}}

// unanswered connects in vain.
func (r *bothRun) unanswered(ctx context.Context) error {
	_, err := r.attempt(ctx, r.lab.VIP())
	return err
}

// clientCloses connects, and the client closes; the balancer does so when it was noted what is
// left at the client.
func (r *bothRun) clientCloses(ctx context.Context) error {
	client, balancer, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if err := r.client.End(ctx, client.Conn, tcp.CloseNow); err != nil {
		return err
	}
	if err := situation.AwaitFinWait2(ctx, r.client, client.Local, client.Remote); err != nil {
		return err
	}
	if err := r.noteFinWait2(ctx, client.Local); err != nil {
		return err
	}
	return r.balancer.End(ctx, balancer.Conn, tcp.CloseNow)
}

// noteFinWait2 notes how long the kernel keeps the client's FIN_WAIT2.
func (r *bothRun) noteFinWait2(ctx context.Context, local netip.AddrPort) error {
	all, err := r.client.Sockets(ctx)
	if err != nil {
		return err
	}
	lasts := "longer"
	for _, s := range all.In(observe.FinWait2) {
		if s.Local == local && s.Expires <= shortFin+time.Second {
			lasts = "short"
		}
	}
	r.seen.Note("FIN_WAIT2", lasts)
	return nil
}

// timeWait connects, the client closes first, and it is noted whether a TIME_WAIT is left.
func (r *bothRun) timeWait(ctx context.Context) error {
	client, balancer, err := r.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := situation.CloseInTurn(ctx, client, balancer); err != nil {
		return err
	}
	all, err := r.client.Sockets(ctx)
	r.seen.Count("client TIME_WAIT", int64(len(all.In(observe.TimeWait))))
	return err
}

// portAgain connects twice from one port, when the TIME_WAIT of the first connection is old
// enough for tcp_tw_reuse.
func (r *bothRun) portAgain(ctx context.Context) error {
	again, err := SamePort{Listener: AtBalancer, Closer: ClientCloses, Binding: AutoPort, Older: true}.Drive(ctx, r.lab)
	outcome, _ := again.Get("outcome")
	r.seen.Note("outcome", outcome)
	return err
}

// loseACKs makes every handshake remain half open at the balancer.
var loseACKs = []lab.Rule{{Role: lab.Client, Table: "mangle", Chain: "OUTPUT", Spec: "-p tcp --tcp-flags SYN,FIN,RST,ACK ACK -j DROP"}}

// The attempts that fill the queue, and when they are given up: before a SYN is repeated.
const (
	queueAttempts = 4
	queueBudget   = 300 * time.Millisecond
)

// fullQueue connects often at once to a listener whose queue of half-open connections holds one
// (inet_csk_reqsk_queue_is_full: the backlog).
func (r *bothRun) fullQueue(ctx context.Context) error {
	one := 1
	listener, err := r.balancer.Listen(ctx, tcp.ListenSpec{At: r.lab.VIP(), Backlog: &one})
	if err != nil {
		return err
	}
	attempts := slices.Repeat([]tcp.Attempt{{To: listener.Addr, Budget: queueBudget}}, queueAttempts)
	_, err = r.client.Attempt(ctx, attempts)
	return err
}
