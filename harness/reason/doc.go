// Package reason asks the kernel why it dropped a packet, and why it sent a reset.
//
// It reads two of the kernel's tracepoints, skb:kfree_skb (since Linux 5.17 with a reason)
// and tcp:tcp_send_reset (since 6.10 with a reason), by BPF programs that a [Watch] owns. Names of
// reasons and the layout of the kernel's structures come from the running kernel's own type
// information (BTF), so nothing here depends on a release. There are no kprobes, and no
// compiler runs.
//
// What has no event is no proof that nothing was dropped: a full accept queue and a server
// without a route back give up a SYN without one (tcp_conn_request consumes it).
package reason
