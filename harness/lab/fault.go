//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Fault is something that is wrong in a lab for a time: see [Lab.Drop] and [Lab.Flap]. It
// ends when its time is over, when End is called, or with the lab, which is no error. Its
// methods may be called from any goroutine.
type Fault struct {
	what   string
	lasts  time.Duration // 0 until it is ended
	repair func() error
	timer  *time.Timer // nil without a time

	ending sync.Once
	over   chan struct{} // closed when it has ended
	// What follows is written before over is closed.
	err   error
	timed bool // ended by its time
	left  bool // ended by the lab, without a repair
}

// errLabClosed means that a fault ended with its lab.
var errLabClosed = errors.New("the lab was closed meanwhile")

// lasting makes the fault that lasts for a time, or until it is ended. It goes on from now.
func (l *Lab) lasting(what string, lasts time.Duration, repair func() error) *Fault {
	f := &Fault{what: what, lasts: lasts, repair: repair, over: make(chan struct{})}
	if lasts > 0 {
		f.timer = time.AfterFunc(lasts, func() { f.end(true) })
	}
	l.CloseWith(closingFault{f})
	return f
}

func (f *Fault) end(timed bool) {
	f.ending.Do(func() {
		f.timed = timed
		if err := f.repair(); err != nil {
			f.err = fmt.Errorf("end the %s: %w", f.what, err)
		}
		close(f.over)
	})
}

// End ends the fault and returns when it has ended. Its error is that of the end, also when
// the fault has ended before. A fault that ended with its lab has none.
func (f *Fault) End() error {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.end(false)
	return f.err
}

// Ended reports whether the fault has ended.
func (f *Fault) Ended() bool {
	select {
	case <-f.over:
		return true
	default:
		return false
	}
}

// Await waits until the fault has ended, by its time or by somebody else's End. It returns
// the error of the end, or what the fault still waits for when ctx ends first.
func (f *Fault) Await(ctx context.Context) error {
	select {
	case <-f.over:
		return f.ended()
	case <-ctx.Done():
		return fmt.Errorf("the %s has not ended: %s: %w", f.what, f.until(), ctx.Err())
	}
}

// ended is how the fault, which is over, has ended.
func (f *Fault) ended() error {
	if f.left {
		return fmt.Errorf("the %s: %w", f.what, errLabClosed)
	}
	return f.err
}

func (f *Fault) until() string {
	if f.lasts == 0 {
		return "it lasts until End is called"
	}
	return fmt.Sprintf("it lasts for %v", f.lasts)
}

// closingFault is how a lab ends a fault that is under way: without a repair, because
// everything goes. The error of a repair that nobody waited for is the lab's.
type closingFault struct{ *Fault }

// Close returns the error with which the time of the fault ended.
func (f closingFault) Close() error {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.ending.Do(func() {
		f.left = true
		close(f.over)
	})
	if f.timed {
		return f.err
	}
	return nil
}
