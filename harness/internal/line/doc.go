// Package line makes typed calls over one byte stream, such as a serial port: many at the
// same time, each with its own context. A call fails at once, instead of waiting, when the
// other side is gone, silent, or of another version.
//
// A [Method] names a call and the types of its argument and its result. The calling side
// has a [Caller], the answering side a [Server].
package line

import "errors"

var (
	// ErrLost is wrapped by every call whose answer can no longer come: the stream ended,
	// it carried something that is not a message, or the other side was silent for too
	// long.
	ErrLost = errors.New("line lost")
	// ErrVersion means that the other side has other methods, or methods with other types.
	ErrVersion = errors.New("the two ends of the line are of different versions")
)

// None is the argument or the result of a method that has none.
type None struct{}
