//go:build linux

package observe

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
)

// dumpTries limits how often a netlink dump is repeated after the kernel reported that the
// table changed during it (NLM_F_DUMP_INTR), which happens when links come and go.
const dumpTries = 50

// dump calls once until it is not interrupted. When every try was interrupted, the error is
// nl.ErrDumpInterrupted: a list that may miss entries is no evidence.
func dump[T any](once func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		list, err := once()
		switch {
		case err == nil:
			return list, nil
		case !errors.Is(err, nl.ErrDumpInterrupted):
			return nil, err
		case try == dumpTries:
			return nil, fmt.Errorf("tried %d times: %w", try, err)
		}
	}
}

// attribute is one netlink attribute without its nesting and byte order flags.
type attribute struct {
	kind  uint16
	value []byte
}

// parseAttributes splits the bytes after the first skip bytes of a message.
func parseAttributes(message []byte, skip int) ([]attribute, error) {
	if len(message) < skip {
		return nil, fmt.Errorf("netlink message of %d bytes, want %d or more", len(message), skip)
	}
	raw, err := nl.ParseRouteAttr(message[skip:])
	if err != nil {
		return nil, fmt.Errorf("split netlink attributes: %w", err)
	}
	attributes := make([]attribute, len(raw))
	for i, a := range raw {
		attributes[i] = attribute{kind: a.Attr.Type & nl.NLA_TYPE_MASK, value: a.Value}
	}
	return attributes, nil
}
