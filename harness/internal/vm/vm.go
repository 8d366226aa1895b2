//go:build linux

// Package vm boots a kernel image under QEMU, with KVM where that really works and software
// emulation elsewhere, and with a file system in memory. It is the common part of guests
// and of the machine that runs a whole suite.
package vm

import "time"

// DefaultMemory is the default memory of a machine in MiB.
const DefaultMemory = 192

// BootTimeout is how long a machine may take until its first message. It takes two seconds,
// and ten times as long on a busy host.
const BootTimeout = 2 * time.Minute

// Host holds the settings that all machines booted here share.
type Host struct {
	// Agent is the path of the guest agent, built from hack/cmd/agent.
	Agent string
	// Accelerator is usually the result of [Accelerate]; Automatic means to call it.
	Accelerator Accelerator
	// MemoryMiB is the memory of a machine; 0 means DefaultMemory.
	MemoryMiB int
	// MaxSilence is how long a machine may be silent while a call waits for it; 0 means
	// line.DefaultMaxSilence.
	MaxSilence time.Duration
}
