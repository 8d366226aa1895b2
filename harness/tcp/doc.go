//go:build linux

// Package tcp drives TCP sockets on one machine: exactly one connect(2) for
// each attempt, listeners with a stated closing behaviour, and control over a
// connection's clock, sequence numbers and end.
//
// It works on raw descriptors, because Go's net package stands between a test
// and the kernel: it dials again on EADDRNOTAVAIL, replaces the kernel's error
// by its own deadline, listens with Multipath TCP, and sets options of its own.
//
// A [Host] opens its sockets inside a network namespace and uses them from
// anywhere. Everything that goes in or comes out of it is plain data, so that
// the same calls can be made from another machine. Protocols on top of it (package
// http) have a connection as a [Stream], from [Host.Dial] or [Host.Serve].
package tcp
