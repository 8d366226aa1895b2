//go:build linux

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"twlab/harness/kernel"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch subscribes at the gateway, with room for so many events.
func (w *network) watch(most int) *FlowWatch {
	w.t.Helper()
	var watch *FlowWatch
	w.in(w.gateway, func() (err error) { watch, err = watchFlows(most); return err })
	w.t.Cleanup(func() { _ = watch.Stop() })
	return watch
}

// outline is what a test compares of events: change, state and source port.
func outline(events []FlowEvent) (all []string) {
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s %s %d", e.Change, e.Flow.State, e.Flow.Original.Src.Port()))
	}
	return all
}

// The life of an entry from its SYN to its timeout, and of one that is deleted.
func TestWatchFlows(t *testing.T) { eachVersion(t, tryWatchFlows) }

func tryWatchFlows(t *testing.T, w *network) {
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1")
	listener := w.listen()
	early, earlyPeer := w.connect(listener, 40000, 0)
	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_events", "1") // whoever else watches on this machine
	watch := w.watch(mostFlowEvents)

	began := time.Now()
	client, server := w.connect(listener, 40001, 0)
	life := []string{"NEW SYN_SENT 40001", "UPDATE SYN_RECV 40001", "UPDATE ESTABLISHED 40001"}
	// Nothing is awaited: connect and accept have returned, so all three segments have
	// passed.
	if got := outline(watch.Since(0)); !slices.Equal(got, life) {
		t.Errorf("after the handshake: got %q, want %q", got, life)
	}
	mark := watch.Mark()
	w.check(errors.Join(unix.Close(client), unix.Close(server)))
	w.await("the timeout", func() bool {
		w.flows() // a dump of the table comes across what has expired
		events := watch.Since(mark)
		return len(events) > 0 && events[len(events)-1].Change == FlowDestroyed
	})
	events := watch.Since(mark)
	last := events[len(events)-1]
	if last.Requester != 0 || last.Flow.Expires != 0 || last.Flow.State != "TIME_WAIT" ||
		last.Flow.Original != (Tuple{w.private, w.endpoint}) || last.Flow.Reply != (Tuple{w.endpoint, w.public}) {
		t.Errorf("timeout: got %v", last)
	}
	for _, e := range watch.Since(0) {
		if e.Stamped || e.Time.Before(began) || e.Time.After(time.Now()) {
			t.Errorf("%v: stamped %v, want the time of receipt", e, e.Stamped)
		}
	}

	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_timestamp", "1")
	mark = watch.Mark()
	client, server = w.connect(listener, 40002, 0)
	match := FlowMatch{Original: Tuple{w.second(), w.endpoint}}
	w.in(w.gateway, func() error { _, err := DeleteFlows(match); return err })
	events = watch.Since(mark)
	if got, want := outline(events), "DESTROY ESTABLISHED 40002"; len(got) != 4 || got[3] != want {
		t.Fatalf("deleted: got %q, want %q in the end", got, want)
	}
	if events[3].Requester == 0 || events[3].Flow.Expires < time.Hour || !strings.Contains(events[3].String(), ", requested by ") {
		t.Errorf("deleted: got %v, want a requester and what was left of days", events[3])
	}
	if first := events[0]; w.stamps() && (!first.Stamped || first.Time.After(time.Now())) {
		t.Errorf("%v: not the kernel's time", first)
	}
	if watch.Lost() != 0 {
		t.Errorf("%d events are lost", watch.Lost())
	}
	w.check(errors.Join(unix.Close(client), unix.Close(server), unix.Close(early), unix.Close(earlyPeer), watch.Stop(), watch.Stop()))
	if n := watch.Mark(); n == 0 || len(watch.Since(0)) != n {
		t.Errorf("after Stop: %d events", n)
	}
}

// An entry has no events when it began while it was to have none, and there is no watch
// where no entry will.
func TestWatchFlowsNeedsEvents(t *testing.T) {
	w := newNetwork(t)
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_events", "0")
	client, server := w.connect(w.listen(), 40001, 0)
	w.in(w.gateway, func() error {
		watch, err := WatchFlows()
		if err == nil || !strings.Contains(err.Error(), "nf_conntrack_events is 0") {
			t.Errorf("got %v, %v, want an error that names the sysctl", watch, err)
		}
		return nil
	})
	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_events", "1")
	watch := w.watch(mostFlowEvents)
	w.in(w.gateway, func() error { _, err := DeleteFlows(FlowMatch{}); return err })
	if events := watch.Since(0); len(events) != 0 || len(w.flows()) != 0 {
		t.Errorf("got %v of an entry that began before, and flows %v", events, w.flows())
	}
	w.check(errors.Join(unix.Close(client), unix.Close(server), watch.Stop()))
}

// A namespace without entries is known by their number, which is exact once all are in the table.
func TestCountConntrack(t *testing.T) {
	eachVersion(t, func(t *testing.T, w *network) {
		w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
		count := func() (n uint32) {
			w.in(w.gateway, func() (err error) { n, err = countConntrack(); return err })
			return n
		}
		if n := count(); n != 0 {
			t.Errorf("%d entries before any packet", n)
		}
		listener := w.listen()
		for i := range 3 {
			client, server := w.connect(listener, 40001+i, 0)
			if n, flows := count(), w.flows(); int(n) != i+1 || len(flows) != i+1 {
				t.Errorf("%d entries counted, and %v, after %d connects", n, flows, i+1)
			}
			defer func() { w.check(errors.Join(unix.Close(client), unix.Close(server))) }()
		}
	})
}

// What the kernel had no room for, and what the watch has no room for, is counted.
func TestWatchFlowsTellsWhatItLost(t *testing.T) {
	w := newNetwork(t)
	w.rule("nat", "POSTROUTING", "-o", "balancer", "-j", "MASQUERADE")
	w.sysctl(w.gateway, "net/netfilter/nf_conntrack_events", "1")
	listener := w.listen()
	small, watch := w.watch(3), w.watch(mostFlowEvents)
	client, server := w.connect(listener, 40001, 0)
	w.check(errors.Join(unix.Close(client), unix.Close(server)))
	// Six events, or seven where so much time has passed that the first FIN had an ACK of its own.
	w.await("the last event", func() bool {
		return slices.ContainsFunc(watch.Since(0), func(e FlowEvent) bool { return e.Flow.State == "TIME_WAIT" })
	})
	if all := watch.Mark(); small.Mark() != 3 || small.Lost() != uint64(all-3) {
		t.Errorf("room for 3 of %d events: %d seen and %d lost", all, small.Mark(), small.Lost())
	}
	before := watch.Mark()
	const connections = 60
	watch.mu.Lock() // keeps the reader away
	err := watch.conn.Control(func(fd uintptr) {
		w.check(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<13))
	})
	for i := range connections {
		client, server := w.connect(listener, 41000+i, 0)
		w.check(errors.Join(unix.Close(client), unix.Close(server)))
	}
	watch.mu.Unlock()
	if lost, seen := watch.Lost(), watch.Mark()-before; lost == 0 || seen == 0 || seen >= 6*connections {
		t.Errorf("%d events lost and %d seen of %d", lost, seen, 6*connections)
	}
	w.check(errors.Join(err, watch.Stop(), small.Stop()))
}

// stamps reports whether this kernel stamps events.
func (w *network) stamps() bool {
	w.t.Helper()
	release, err := kernel.Running()
	w.check(err)
	return !release.Before(6, 14)
}

func netlinkMessage(kind uint16, flags uint16, port uint32, body []byte) []byte {
	header := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	header = binary.NativeEndian.AppendUint16(header, kind)
	header = binary.NativeEndian.AppendUint16(header, flags)
	header = binary.NativeEndian.AppendUint32(header, 0)
	return append(binary.NativeEndian.AppendUint32(header, port), body...)
}

func TestParseFlowEvents(t *testing.T) {
	const ct = unix.NFNL_SUBSYS_CTNETLINK << 8
	body := message(
		tupleAttribute(nl.CTA_TUPLE_ORIG, private, endpoint, unix.IPPROTO_TCP), tupleAttribute(nl.CTA_TUPLE_REPLY, endpoint, public, unix.IPPROTO_TCP))
	stamped := append(slices.Clone(body), nl.NewRtAttr(attributeTimestampEvent, binary.BigEndian.AppendUint64(nil, 5_000_000_000)).Serialize()...)
	udp := message(tupleAttribute(nl.CTA_TUPLE_ORIG, private, endpoint, unix.IPPROTO_UDP))
	now := time.Unix(1000, 0).UTC()
	datagram := slices.Concat(
		netlinkMessage(ct|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, body),
		netlinkMessage(ct|nl.IPCTNL_MSG_CT_NEW, 0, 0, udp),
		netlinkMessage(ct|nl.IPCTNL_MSG_CT_NEW, 0, 0, body),
		netlinkMessage(ct|nl.IPCTNL_MSG_CT_DELETE, 0, 77, stamped))
	flow := Flow{Original: Tuple{private, endpoint}, Reply: Tuple{endpoint, public}}
	want := []FlowEvent{
		{Time: now, Change: FlowNew, Flow: flow}, {Time: now, Change: FlowUpdated, Flow: flow},
		{Time: time.Unix(5, 0).UTC(), Stamped: true, Change: FlowDestroyed, Flow: flow, Requester: 77},
	}
	got, err := parseFlowEvents(datagram, now)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %v, %v\nwant %v", got, err, want)
	}
	for name, c := range map[string]struct {
		datagram []byte
		want     string
	}{
		"cut":          {datagram[:40], "conntrack event of"},
		"another type": {netlinkMessage(ct|9, 0, 0, body), "type 0x109"},
		"no body":      {netlinkMessage(ct, 0, 0, nil), "0 bytes, want 4"},
	} {
		if _, err := parseFlowEvents(c.datagram, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
