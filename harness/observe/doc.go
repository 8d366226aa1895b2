//go:build linux

// Package observe holds the observations: independent traces of the same event,
// read as a snapshot and compared as a difference.
//
// A failed connect(2) has one errno and many traces: kernel counters
// ([ReadCounters]), the socket table ([ReadSockets]), connection tracking
// ([ReadFlows]), rule hits ([ReadRules]) and packets ([OpenTap], [AccountSYNs]).
// A claim about the kernel is proved when they agree.
//
// Every Read function, DeleteFlows and OpenTap act in the network namespace of
// the calling thread. Callers in another namespace wrap them in
// ns.Namespace.Do; what they return may be used anywhere. The results are plain
// data that survives encoding/json, so that they can come from another machine.
//
// Reading changes nothing in the namespace: no table, rule or connection comes
// into being because somebody looked.
package observe
