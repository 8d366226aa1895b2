//go:build linux

package guest

import (
	"context"

	"twlab/harness/internal/vm"
	"twlab/harness/kernel"
)

// Host is what is the same for all machines that somebody boots here.
type Host = vm.Host

// DefaultMemory is how many MiB a machine has unless it says otherwise.
const DefaultMemory = vm.DefaultMemory

// Accelerator is what runs a machine's instructions.
type Accelerator = vm.Accelerator

// The accelerators. The zero value leaves the choice to [Boot].
const (
	Automatic = vm.Automatic
	// KVM is the processor itself.
	KVM = vm.KVM
	// TCG is software emulation, which works everywhere.
	TCG = vm.TCG
)

// Accelerate finds out whether KVM really works here: it lets a kernel begin to
// boot. /dev/kvm alone proves little.
func Accelerate(ctx context.Context, k kernel.Image) (Accelerator, error) {
	return vm.Accelerate(ctx, k)
}

// DeadError says what failed because a machine died or fell silent, and how that
// ended.
type DeadError = vm.DeadError

// Detailed is the text of an error, with the end of a machine's console when one
// died. It is for programs that keep no evidence.
func Detailed(err error) string { return vm.Detailed(err) }

// What can be wrong before a machine runs.
var (
	// ErrNoQEMU says that QEMU is not installed.
	ErrNoQEMU = vm.ErrNoQEMU
	// ErrNoMemory says that the host has too little memory left for another machine.
	ErrNoMemory = vm.ErrNoMemory
)
