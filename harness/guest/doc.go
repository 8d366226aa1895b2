//go:build linux

// Package guest boots a kernel image under QEMU as a node: a machine with a
// kernel of its own, whose network cards are tap devices in the namespaces of its
// neighbours.
//
// [Boot] writes an initramfs, with a static agent (package agent) as /init and
// the modules that the network cards and the observations need, and starts QEMU with
// KVM where that really works and software emulation elsewhere. Node calls go
// over the second serial port, which every kernel has a driver for; the first one
// is the console, which is kept as evidence.
//
// Nothing of a machine outlives the process that booted it.
package guest
