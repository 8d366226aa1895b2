//go:build linux

// Package vm boots a kernel image under QEMU, with KVM where that really works and
// software emulation elsewhere, and with a file system in memory. It is what guests
// and the machine of a whole suite have in common.
package vm

import "time"

// DefaultMemory is how many MiB a machine has unless it says otherwise.
const DefaultMemory = 192

// BootTimeout is how long a machine may take until its first word. It takes
// two seconds, and ten times as long where many others compute.
const BootTimeout = 2 * time.Minute

// Host is what is the same for all machines that somebody boots here.
type Host struct {
	// Agent is the path of the guest agent, built from hack/cmd/agent.
	Agent string
	// Accelerator is usually the answer of [Accelerate]; Automatic asks it.
	Accelerator Accelerator
	// MemoryMiB is the memory of a machine; 0 means DefaultMemory.
	MemoryMiB int
	// MaxSilence is how long a machine may be silent while it is asked something;
	// 0 means line.DefaultMaxSilence.
	MaxSilence time.Duration
}
