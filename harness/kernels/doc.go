//go:build linux

// Package kernels gives kernels by name: a catalogue, and the cache that their
// packages are fetched into.
//
// Packages come through the system's own apt, which checks their signatures, in
// a private directory that the system's apt does not know; or from a file. The
// cache never shows half a kernel: each is made beside and then renamed.
package kernels
