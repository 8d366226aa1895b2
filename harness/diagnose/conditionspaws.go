package diagnose

import (
	"net/netip"
	"time"

	"twlab/harness/recording"
)

// setBack are the segments of the open connection that reached their destination with a timestamp
// below that of one which the same end sent before: how many, where they arrived, and by how much the
// first of them was below, with a clock of a tick in each millisecond, as Linux has (RFC 7323, section
// 5.3). The handshake's have their own causes.
func (c *Case) setBack() (n int, at string, by time.Duration) {
	newest := map[netip.AddrPort]uint32{}
	for _, l := range c.lives {
		p := l.First()
		if p.Timestamp == nil || p.Is('R') || l.End != Delivered {
			continue
		}
		last, known := newest[p.Src]
		behind := int32(last - p.Timestamp.Value) //nolint:gosec // as the kernel compares them, round the end
		if known && behind > 0 && !p.Is('S') {
			if n++; n == 1 {
				at, by = l.Node, time.Duration(behind)*time.Millisecond
			}
			continue
		}
		newest[p.Src] = p.Timestamp.Value
	}
	return n, at, by
}

// timestampsBack says that some did.
func timestampsBack(c *Case) Fact {
	n, at, by := c.setBack()
	return c.is(recording.OfPackets, n > 0, "%s came to %s with a timestamp below one of before, the first by %v", number(n, "segment"), orNone(at), by)
}

// discarded says that the node where they arrived counted what it discards for its timestamp.
func discarded(c *Case) Fact {
	_, at, _ := c.setBack()
	rose := c.rose(at, "TcpExt.PAWSEstab")
	return c.is(recording.OfCounters, rose > 0, "TcpExt.PAWSEstab of %s rose by %d", orNone(at), rose)
}
