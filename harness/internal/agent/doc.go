//go:build linux

// Package agent is what a machine with a kernel of its own runs instead of an
// init: it answers the calls of node.Node by node.Local, over the machine's
// second serial port.
//
// It is process 1 of an initramfs and the only program there, so it also does
// what an init must: mounts, modules, links, and orphans. It needs Linux 3.2, and
// nothing of the kernel that is not in every configuration: a serial port, /proc,
// and a network card whose driver is built in or among the modules brought along.
package agent
