//go:build linux

package recycle_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/node"
	"twlab/harness/observe"
	"twlab/harness/recycle"
	"twlab/harness/tcp"
)

// phonesLab is a lab in which two phones connect to a balancer through a router.
type phonesLab struct {
	*lab.Lab
	phone, other, balancer node.Node
	listener               node.Listening
}

func build(t *testing.T) phonesLab {
	t.Helper()
	l := labtest.Build(t, lab.Topology{
		Clients: 2, Gateway: lab.GatewaySpec{Kind: lab.Routed},
		// One clock for all connections of a phone, and few retries.
		Sysctls: lab.On(lab.Client, "net.ipv4.tcp_timestamps=2", "net.ipv4.tcp_syn_retries=1"),
	})
	phones := l.Nodes(lab.Client)
	w := phonesLab{Lab: l, phone: phones[0], other: phones[1], balancer: l.Balancer()}
	var err error
	if w.listener, err = w.balancer.Listen(t.Context(), tcp.ListenSpec{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w phonesLab) emulate(t *testing.T, at node.Node, c recycle.Config) *recycle.Emulation {
	t.Helper()
	e, err := recycle.Attach(t.Context(), w.Lab, at.Identity().Name, c)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs BPF: run hack/test as root")
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ended is a connection that is over, as who closed it first sees it.
type ended struct {
	at            node.Node
	local, remote netip.AddrPort
}

// meet connects a phone, puts the clock of that connection forward, and has the
// closer close it first.
func (w phonesLab) meet(t *testing.T, from, closer node.Node, forward int32) ended {
	t.Helper()
	outs, err := from.Attempt(t.Context(), []tcp.Attempt{{To: w.listener.Addr}})
	if err != nil || outs[0].Outcome != tcp.Connected {
		t.Fatal(outs, err)
	}
	mine := outs[0].Conn
	theirs, err := w.balancer.Accept(t.Context(), w.listener.Handle, outs[0].Local)
	if err != nil {
		t.Fatal(err)
	}
	if forward != 0 {
		if err := from.AdvanceClock(t.Context(), mine, forward); err != nil {
			t.Fatal(err)
		}
	}
	e := ended{w.balancer, w.listener.Addr, outs[0].Local}
	first, second := tcp.CloseAfterPeer, tcp.CloseFirst
	if closer != w.balancer {
		e = ended{from, outs[0].Local, w.listener.Addr}
		first, second = second, first
	}
	done := make(chan error, 1)
	go func() { done <- from.End(t.Context(), mine, first) }()
	if err := errors.Join(w.balancer.End(t.Context(), theirs, second), <-done); err != nil {
		t.Fatal(err)
	}
	return e
}

// timeWait is the TIME_WAIT that is left of it, if there is one.
func (e ended) timeWait(t *testing.T) (left observe.Sockets) {
	t.Helper()
	all, err := e.at.Sockets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all.In(observe.TimeWait).Between(e.local, e.remote)
}

func await(t *testing.T, event string, seen func() (bool, error)) {
	t.Helper()
	within, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := observe.Await(within, event, seen); err != nil {
		t.Fatal(err)
	}
}

// connect is a phone's next attempt, with the clock that it really has.
func (w phonesLab) connect(t *testing.T, from node.Node) tcp.Result {
	t.Helper()
	outs, err := from.Attempt(t.Context(), []tcp.Attempt{{To: w.listener.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	return outs[0]
}

// muchLater is 10000 s of a connection's clock.
const muchLater = 10_000_000

func TestWhoeverComesNext(t *testing.T) {
	const short = 200 * time.Millisecond
	for _, c := range []struct {
		name    string
		config  recycle.Config
		before  func(t *testing.T, w phonesLab, e *recycle.Emulation)
		from    func(phonesLab) node.Node
		outcome tcp.Outcome
	}{
		{
			name: "is blocked when its timestamp is older",
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, muchLater)
			},
			outcome: tcp.TimedOut,
		}, {
			name:    "gets in when it is newer",
			before:  func(t *testing.T, w phonesLab, _ *recycle.Emulation) { w.meet(t, w.phone, w.balancer, 0) },
			outcome: tcp.Connected,
		}, {
			name: "gets in from another address",
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, muchLater)
			},
			from:    func(w phonesLab) node.Node { return w.other },
			outcome: tcp.Connected,
		}, {
			name: "gets in when the phone has closed first, or reset",
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.phone, muchLater)
				outs, err := w.phone.Attempt(t.Context(), []tcp.Attempt{{To: w.listener.Addr, Ending: tcp.Abort}})
				if err != nil || outs[0].Outcome != tcp.Connected {
					t.Fatal(outs, err)
				}
			},
			outcome: tcp.Connected,
		}, {
			name:   "gets in when the window is over",
			config: recycle.Config{Strict: true, Window: short},
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, muchLater)
				over := time.Now().Add(short)
				await(t, "the end of the window", func() (bool, error) { return time.Now().After(over), nil })
			},
			outcome: tcp.Connected,
		}, {
			name: "gets in without timestamps",
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, muchLater)
				withoutTimestamps(t, w.phone)
			},
			outcome: tcp.Connected,
		}, {
			name:   "is blocked without timestamps, strictly",
			config: recycle.Config{Strict: true},
			before: func(t *testing.T, w phonesLab, _ *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, 0)
				withoutTimestamps(t, w.phone)
			},
			outcome: tcp.TimedOut,
		}, {
			name: "gets in when the emulation is over",
			before: func(t *testing.T, w phonesLab, e *recycle.Emulation) {
				w.meet(t, w.phone, w.balancer, muchLater)
				if err := errors.Join(e.Close(), e.Close()); err != nil {
					t.Error(err)
				}
			},
			outcome: tcp.Connected,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := build(t)
			e := w.emulate(t, w.balancer, c.config)
			c.before(t, w, e)
			from := w.phone
			if c.from != nil {
				from = c.from(w)
			}
			out := w.connect(t, from)
			if out.Outcome != c.outcome {
				t.Errorf("%v, want %s", out, c.outcome)
			}
			if dropped, err := e.Drops(); err == nil && c.outcome == tcp.TimedOut != (dropped == uint64(out.SYNs)) {
				t.Errorf("%d drops of %d SYNs", dropped, out.SYNs)
			}
		})
	}
}

func withoutTimestamps(t *testing.T, phone node.Node) {
	t.Helper()
	if err := phone.SetSysctl(t.Context(), "net.ipv4.tcp_timestamps", "0"); err != nil {
		t.Fatal(err)
	}
}

// The retransmission timeout is 200 ms and more (TCP_RTO_MIN), so a TIME_WAIT lasts
// 0.7 s and more.
func TestTimeWaitIsShort(t *testing.T) {
	w := build(t)
	e := w.emulate(t, w.balancer, recycle.Config{})
	began := time.Now()
	over := w.meet(t, w.phone, w.balancer, 0)
	if len(over.timeWait(t)) == 0 && time.Since(began) < 700*time.Millisecond {
		t.Fatal("there is no TIME_WAIT that could be short")
	}
	var length time.Duration
	await(t, "the emulation to hear of the end", func() (known bool, err error) {
		length, known = e.TimeWait(over.local, over.remote)
		return known, nil
	})
	if length < 700*time.Millisecond || length > 5*time.Second {
		t.Errorf("3.5 retransmission timeouts are %v", length)
	}
	await(t, "the TIME_WAIT to go", func() (bool, error) { return len(over.timeWait(t)) == 0, nil })
	if took := time.Since(began); took < length {
		t.Errorf("the TIME_WAIT was there for %v at most, want %v", took, length)
	}

	// What others have closed first is not the balancer's, and what had no
	// timestamps stays.
	theirs := w.meet(t, w.phone, w.phone, 0)
	withoutTimestamps(t, w.phone)
	without := w.meet(t, w.phone, w.balancer, 0)
	await(t, "the emulation to hear of the end", func() (known bool, err error) {
		length, known = e.TimeWait(without.local, without.remote)
		return known, nil
	})
	if length != 0 {
		t.Errorf("without timestamps a TIME_WAIT is to last %v", length)
	}
	soon := time.Now().Add(time.Second)
	await(t, "more than 3.5 retransmission timeouts to pass", func() (bool, error) { return time.Now().After(soon), nil })
	for what, left := range map[string]observe.Sockets{"the phone's": theirs.timeWait(t), "without timestamps": without.timeWait(t)} {
		if len(left) != 1 {
			t.Errorf("%s TIME_WAIT is gone", what)
		}
	}
}

// What the emulation does about a connection ends with it.
func TestCloseLeavesNothing(t *testing.T) {
	w := build(t)
	w.emulate(t, w.balancer, recycle.Config{}) // skips where there is none
	before := bpfDescriptors(t)
	e, err := recycle.Attach(t.Context(), w.Lab, "client0", recycle.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if during := bpfDescriptors(t); during <= before {
		t.Errorf("%d descriptors of BPF before, %d now: this test sees nothing", before, during)
	}
	over := w.meet(t, w.phone, w.phone, 0)
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Errorf("close, twice: %v", err)
	}
	if after := bpfDescriptors(t); after != before {
		t.Errorf("%d descriptors of BPF before, %d after", before, after)
	}
	later := time.Now().Add(time.Second)
	await(t, "more than 3.5 retransmission timeouts to pass", func() (bool, error) { return time.Now().After(later), nil })
	if len(over.timeWait(t)) != 1 {
		t.Error("a TIME_WAIT was taken away after Close")
	}
}

// bpfDescriptors counts this process's maps, programs and links.
func bpfDescriptors(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/thread-self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		target, err := os.Readlink(fd)
		if err == nil && (strings.Contains(target, "bpf-map") || strings.Contains(target, "bpf-prog") || strings.Contains(target, "bpf_link")) {
			n++
		}
	}
	return n
}

func TestNotEveryNodeCanBeEmulated(t *testing.T) {
	w := build(t)
	if _, err := recycle.Attach(t.Context(), w.Lab, "nobody", recycle.Config{}); err == nil || !strings.Contains(err.Error(), `no node "nobody"`) {
		t.Errorf("of a node that is not there: %v", err)
	}
	if _, err := recycle.Attach(t.Context(), w.Lab, "balancer", recycle.Config{Window: -1}); err == nil || !strings.Contains(err.Error(), "window of -1ns") {
		t.Errorf("with a window that ends before it begins: %v", err)
	}
}
