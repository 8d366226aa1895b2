//go:build linux

// Package kernels finds kernels by name: it has a catalogue, and a cache into which their
// packages are fetched.
//
// Packages come from a file, or from the system's own apt, which checks their signatures,
// in a private directory that the system's apt does not use. The cache never shows an
// incomplete kernel: each is built in a directory of its own and then renamed.
package kernels
