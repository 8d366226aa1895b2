package observe

import (
	"context"
	"fmt"
	"time"
)

// Interval between two looks of [Await]: short against everything that a kernel
// timer does (a jiffy is 1 to 10 ms), long against the cost of a look.
const awaitInterval = 2 * time.Millisecond

// Await looks at a witness until it shows the event, or says that it cannot be
// asked, or ctx ends. It is the one place that waits by the clock; the error on
// the end of ctx wraps ctx.Err() and says what was awaited, so that our own
// patience never passes for something that the kernel said.
func Await(ctx context.Context, event string, seen func() (bool, error)) error {
	for {
		ok, err := seen()
		if err != nil {
			return fmt.Errorf("await %s: %w", event, err)
		}
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("await %s: %w", event, ctx.Err())
		}
		time.Sleep(awaitInterval)
	}
}
