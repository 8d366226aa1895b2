package scenarios

import "twlab/harness/observe"

// PAWSReject is the counter of a kernel that rises when a socket in TIME_WAIT
// rejects a segment for its timestamp (tcp_timewait_state_process). Until Linux
// 6.15 that is the counter of established connections; commit c449d5f3a3d7 gave
// it one of its own. The counters are any that were read on that kernel.
func PAWSReject(c observe.Counters) string {
	const own = "TcpExt.PAWSTimewait"
	if _, has := c[own]; has {
		return own
	}
	return "TcpExt.PAWSEstab"
}
