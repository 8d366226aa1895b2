//go:build linux

// Package guest boots a kernel image under QEMU as a node: a guest, with its own kernel,
// whose network cards are tap devices in the namespaces of its neighbours.
//
// [Boot] writes an initramfs, with a static agent (package agent) as /init and the modules
// that the network cards and the observations need. It starts QEMU with KVM where that
// really works, and with software emulation elsewhere. Node calls go over the second serial
// port, for which every kernel has a driver. The first one is the console; what it prints
// is kept as evidence.
//
// Nothing of a guest outlives the process that booted it.
package guest
