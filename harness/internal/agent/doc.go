//go:build linux

// Package agent is the program that a guest runs instead of an init. It answers the calls
// of node.Node with node.Local, over the guest's second serial port.
//
// It is process 1 of an initramfs and the only program there, so it also does the work of
// an init: mounts, modules, links, and orphans. It needs Linux 3.2, and only what every
// kernel configuration has: a serial port, /proc, and a network card whose driver is built
// in or among the modules of the initramfs.
package agent
