//go:build linux

// Package recycle emulates tcp_tw_recycle at a node of the running kernel, which
// has not had it since Linux 4.12 (commit 4396e46187ca).
//
// A BPF program on the links of the node does the check that tcp_v4_conn_request
// (tcp_conn_request and tcp_peer_is_proven from 3.17 on) did: when a connection
// that this host closed first goes to TIME_WAIT, it notes the address of the peer
// and the peer's last timestamp, and for 60 s drops, without a word, every SYN
// from there with an older one. That this host closed first is read from the
// kernel's own socket. A process does the rest of tcp_time_wait: it is told of
// connections that end (the sock_diag group of destroyed sockets), and takes their
// TIME_WAITs away when they are 3.5 retransmission timeouts old (SOCK_DESTROY).
//
// An emulation proves nothing of any kernel. It shows what those did, where none
// of them is at hand. What it does not imitate:
//
//   - The TIME_WAIT's own timer says 60 s until the TIME_WAIT is gone, and it goes a
//     little late, as processes do.
//   - Timestamps are compared in nanoseconds of age, not in whole seconds.
//   - An address is noted when the FIN arrives that leads to TIME_WAIT, whether or not
//     the kernel then takes that segment, and the timestamp is that segment's own.
//   - The host's own tcp_timestamps is not looked at: while it is 0 no connection
//     has timestamps, and so nothing is noted, but what was noted before is checked.
//   - SYN cookies, which skipped the check, and a connect from here, which took the
//     noted timestamp for the first one of its peer.
//   - It remembers 1024 addresses (tcp_metrics had more, and forgot the oldest), and IPv4 only.
package recycle
