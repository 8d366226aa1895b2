//go:build linux

package vm

import (
	"errors"
	"fmt"
	"time"

	"twlab/harness/kernel"
)

// settle is how long QEMU may take to end once it has let go of the line.
const settle = time.Second

// DeadError says what failed because a machine died or fell silent, and how that
// ended.
type DeadError struct {
	Err error  // what failed
	How string // the kernel, the accelerator, what QEMU does
	// Console is the end of what the machine has printed, indented lines behind a
	// headline. The error's text is without it: it is for the evidence.
	Console string
}

// Error is one line, unless Err has more.
func (e *DeadError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.How) }

// Unwrap gives what failed to errors.Is.
func (e *DeadError) Unwrap() error { return e.Err }

// Detailed is the text of an error, with the end of a machine's console when one
// died. It is for programs that keep no evidence.
func Detailed(err error) string {
	var dead *DeadError
	if errors.As(err, &dead) {
		return err.Error() + "\n" + dead.Console
	}
	return err.Error()
}

// PostMortem says how the machine ended, by a *[DeadError].
func (q *Process) PostMortem(err error, release kernel.Release, accelerator Accelerator) error {
	how := "still runs"
	select {
	case <-q.Ended:
		how = "has ended"
		if q.Err != nil {
			how = fmt.Sprintf("has ended (%v)", q.Err)
		}
	case <-time.After(settle):
	}
	if why := q.Console.Panicked(); why != "" {
		how += "; " + why
	}
	return &DeadError{
		Err:     err,
		How:     fmt.Sprintf("kernel %v, accelerator %s, QEMU %s", release, accelerator, how),
		Console: q.Console.Tail(),
	}
}
