package diagnose

import (
	"fmt"

	"twlab/harness/recording"
)

// dropped says that the kernel of the node where the SYNs ended has dropped each of them for a
// reason.
func dropped(reason string) Condition {
	return func(c *Case) Fact {
		node, _, ok := c.stop()
		n, last := 0, recording.Event{}
		for _, e := range c.events {
			if e.Kind == "drop" && e.Node == node && e.Flags == "S" {
				last = e
				if e.Reason == reason {
					n++
				}
			}
		}
		says := fmt.Sprintf("%s dropped no SYN that its kernel tells of", orNone(node))
		if last.Kind != "" {
			says = fmt.Sprintf("%s dropped the SYN: %s in %s", node, last.Reason, last.Place)
		}
		f := c.is(recording.OfEvents, n > 0 && n == c.sent(), "%s", says)
		if !ok {
			f.Is = Unknown
		}
		return f
	}
}

// droppedOtherwise says that a kernel dropped a SYN, and not in the queue before a link.
func droppedOtherwise(c *Case) Fact {
	for _, e := range c.events {
		if e.Kind == "drop" && e.Flags == "S" && e.Reason != "QDISC_DROP" {
			return c.is(recording.OfEvents, true, "%s dropped a SYN: %s in %s", e.Node, e.Reason, e.Place)
		}
	}
	return c.is(recording.OfEvents, false, "no kernel tells that it dropped a SYN otherwise than before a link")
}
