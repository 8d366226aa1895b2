//go:build linux

package vm

import (
	"errors"
	"fmt"
	"time"

	"twlab/harness/kernel"
)

// settle is how long QEMU may take to end after it has closed the line.
const settle = time.Second

// DeadError says what failed because a machine died or did not respond, and how the machine
// ended.
type DeadError struct {
	Err error  // what failed
	How string // the kernel, the accelerator, and whether QEMU has ended
	// Console is the end of what the machine has printed: a headline and indented lines.
	// The error's text does not contain it; it is kept as evidence.
	Console string
}

// Error returns one line, unless Err has more.
func (e *DeadError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.How) }

// Unwrap returns what failed, for errors.Is.
func (e *DeadError) Unwrap() error { return e.Err }

// Detailed returns the text of an error, with the end of the machine's console when one
// died. It is for programs that keep no evidence.
func Detailed(err error) string {
	var dead *DeadError
	if errors.As(err, &dead) {
		return err.Error() + "\n" + dead.Console
	}
	return err.Error()
}

// PostMortem returns a *[DeadError] that adds to err how the machine ended.
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
