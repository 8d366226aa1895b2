//go:build linux

// Package recycle emulates tcp_tw_recycle on a node of the running kernel. Linux has not
// had it since 4.12 (commit 4396e46187ca).
//
// A BPF program on the links of the node makes the check that tcp_v4_conn_request
// (tcp_conn_request and tcp_peer_is_proven from 3.17 on) made. When a connection that this
// host closed first goes to TIME_WAIT, the program stores the address of the peer and the
// peer's last timestamp. For 60 s it then silently drops every SYN from that address with
// an older timestamp. The state of the kernel's own socket shows that this host closed
// first. A process does the rest of tcp_time_wait: it receives a message for each
// connection that ends (the sock_diag group of destroyed sockets), and removes its
// TIME_WAIT when that is 3.5 retransmission timeouts old (SOCK_DESTROY).
//
// An emulation proves nothing about any kernel. It shows what those kernels did, where none
// of them is available. It differs from them as follows:
//
//   - The TIME_WAIT's own timer shows 60 s until the TIME_WAIT is removed, and a process
//     removes it a little late.
//   - Timestamps are compared in nanoseconds of age, not in whole seconds.
//   - An address is stored when the FIN arrives that leads to TIME_WAIT, whether or not the
//     kernel then accepts that segment. The stored timestamp is that segment's own.
//   - The host's own tcp_timestamps is ignored: while it is 0 no connection has timestamps,
//     so nothing is stored, but what was stored before is still checked.
//   - SYN cookies skipped the check, and a connect from this host took the stored timestamp
//     as the first one of its peer. Neither is imitated.
//   - It stores 1024 addresses (tcp_metrics had more, and forgot the oldest).
//   - It knows IPv4 alone. The kernels checked SYNs over IPv6 too (tcp_v6_conn_request);
//     here they pass as if tcp_tw_recycle were 0, and a TIME_WAIT over IPv6 lives for the
//     whole 60 s. So does the TIME_WAIT of an IPv6 socket that talked IPv4.
package recycle
