//go:build linux

package guest

import (
	"context"

	"twlab/harness/internal/vm"
	"twlab/harness/kernel"
)

// Host holds the settings that all guests booted here share.
type Host = vm.Host

// DefaultMemory is the default memory of a guest in MiB.
const DefaultMemory = vm.DefaultMemory

// Accelerator says how a guest's instructions are executed.
type Accelerator = vm.Accelerator

// The accelerators. The zero value leaves the choice to [Boot].
const (
	Automatic = vm.Automatic
	// KVM: the processor itself executes them.
	KVM = vm.KVM
	// TCG: QEMU emulates them in software, which works everywhere.
	TCG = vm.TCG
)

// Accelerate finds out whether KVM really works here, by starting to boot a kernel. That
// /dev/kvm exists proves little.
func Accelerate(ctx context.Context, k kernel.Image) (Accelerator, error) {
	return vm.Accelerate(ctx, k)
}

// DeadError says what failed because a guest died or did not respond, and how the guest
// ended.
type DeadError = vm.DeadError

// Detailed returns the text of an error, with the end of the guest's console when one died.
// It is for programs that keep no evidence.
func Detailed(err error) string { return vm.Detailed(err) }

// Errors before a guest runs.
var (
	// ErrNoQEMU means that QEMU is not installed.
	ErrNoQEMU = vm.ErrNoQEMU
	// ErrNoMemory means that the host has too little memory for another guest.
	ErrNoMemory = vm.ErrNoMemory
)
