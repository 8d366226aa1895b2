//go:build linux

// Package tcp drives TCP sockets on one machine: exactly one connect(2) per attempt,
// listeners with a stated closing behaviour, and control over the clock, the sequence
// numbers and the end of a connection.
//
// It works on raw descriptors, because Go's net package stands between a test and the
// kernel: it dials again on EADDRNOTAVAIL, replaces the kernel's error by its own deadline,
// listens with Multipath TCP, and sets socket options of its own.
//
// A [Host] opens its sockets inside a network namespace; they can be used from anywhere.
// Its arguments and results are plain data, so that the same calls can be made from another
// machine. Protocols on top of it (package http) get a connection as a [Stream], from
// [Host.Dial] or [Host.Serve].
package tcp
