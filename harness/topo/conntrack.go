package topo

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ConntrackTimeouts are how long connection tracking keeps a TCP entry after its last packet,
// by the state of the entry (tcp_timeouts in net/netfilter/nf_conntrack_proto_tcp.c), in whole
// seconds. Zero leaves the kernel's own value. One state has no sysctl: SYN_SENT2, in which both
// sides have sent a SYN.
type ConntrackTimeouts struct {
	SYNSent     time.Duration // the first SYN has passed; 120 s
	SYNRecv     time.Duration // and a SYN-ACK; 60 s
	Established time.Duration // 5 days
	FinWait     time.Duration // one side has sent a FIN, which is not acknowledged; 120 s
	CloseWait   time.Duration // which is acknowledged; 60 s
	LastAck     time.Duration // the other side has sent its FIN as well, or the first one again; 30 s
	TimeWait    time.Duration // which is acknowledged; 120 s
	Close       time.Duration // one side has sent a RST; 10 s
	// Unacknowledged is the most for a connection with data that nobody has acknowledged, and
	// MaxRetrans after nf_conntrack_tcp_max_retrans retransmissions; both 300 s. They only
	// shorten (nf_conntrack_tcp_packet).
	Unacknowledged, MaxRetrans time.Duration
}

// On returns the sysctls for every node of a role, or everything that is wrong with the
// timeouts. A node has these sysctls when connection tracking is in the kernel or loaded.
func (c ConntrackTimeouts) On(role Role) (Settings, error) {
	assignments, err := c.assignments()
	return On(role, assignments...), err
}

// OnNode is On for the node of that name.
func (c ConntrackTimeouts) OnNode(name string) (Settings, error) {
	assignments, err := c.assignments()
	return OnNode(name, assignments...), err
}

// longestTimeout is what fits into the kernel's signed number of seconds in a jiffy count of
// 1000 Hz (proc_dointvec_jiffies).
const longestTimeout = (1<<31 - 1) / 1000 * time.Second

func (c ConntrackTimeouts) assignments() (all []string, err error) {
	var errs []error
	for _, t := range []struct {
		state string
		value time.Duration
	}{
		{"syn_sent", c.SYNSent}, {"syn_recv", c.SYNRecv}, {"established", c.Established},
		{"fin_wait", c.FinWait}, {"close_wait", c.CloseWait}, {"last_ack", c.LastAck},
		{"time_wait", c.TimeWait}, {"close", c.Close},
		{"unacknowledged", c.Unacknowledged}, {"max_retrans", c.MaxRetrans},
	} {
		switch {
		case t.value == 0:
		case t.value < 0 || t.value > longestTimeout || t.value%time.Second != 0:
			errs = append(errs, fmt.Errorf("conntrack timeout %s of %v: want whole seconds, 1s to %v", t.state, t.value, longestTimeout))
		default:
			all = append(all, "net.netfilter.nf_conntrack_tcp_timeout_"+t.state+"="+strconv.Itoa(int(t.value/time.Second)))
		}
	}
	return all, errors.Join(errs...)
}
