//go:build linux

// Package observe reads independent traces of the same event, as snapshots that are
// compared.
//
// A failed connect(2) has one errno and many traces: kernel counters ([ReadCounters]), the
// socket table ([ReadSockets]), connection tracking ([ReadFlows], [WatchFlows]), rule hits
// ([ReadRules]) and packets ([OpenTap], [AccountSYNs]). A claim about the kernel is proved
// when they agree. All of them see IPv4 and IPv6.
//
// Every Read function, DeleteFlows, OpenTap and WatchFlows act in the network namespace of the calling
// thread. Callers in another namespace call them inside ns.Namespace.Do; the results may be
// used anywhere. The results are plain data that encoding/json preserves, so that they can
// come from another machine.
//
// Reading changes nothing in the namespace: it creates no table, rule or connection.
package observe
