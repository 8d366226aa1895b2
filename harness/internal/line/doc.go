// Package line makes typed calls over one byte stream, such as a serial port:
// many at a time, each with its context, and with an error instead of a wait
// when the other side is gone, silent, or of another version.
//
// A [Method] names a call and the types that go in and come out. The side that
// calls has a [Caller], the side that answers a [Server].
package line

import "errors"

var (
	// ErrLost is wrapped by every call whose answer can no longer come: the
	// stream ended, carried something that is no message, or the other side was
	// silent for too long.
	ErrLost = errors.New("line lost")
	// ErrVersion says that the other side has other methods, or other types in them.
	ErrVersion = errors.New("the two ends of the line are of different versions")
)

// None is what goes into, or comes out of, a method that has nothing to say.
type None struct{}
