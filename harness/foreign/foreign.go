// Package foreign makes recordings of captures that others have taken, so that the engine which
// diagnoses our own runs can say what is proved by them.
//
// Captures are read twice, as streams: first to learn which connections there are, then to keep
// the packets of those that died, up to a limit. The packets of one connection are found again
// in each capture although NAT has changed their addresses, and the clocks of the machines are
// brought together by packets that two of them have seen.
package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"twlab/harness/capture"
	"twlab/harness/diagnose"
	"twlab/harness/recording"
)

// Source is a capture, and the node where it was taken. Sources are given in the order of the
// way from the client. A node whose name begins with "client" is where the connections begin,
// one whose name begins with "server" where they end; any other is a box between them. A box
// may have several captures: one for each side.
type Source struct{ Node, Path string }

// Options say how much is read.
type Options struct {
	// MostPackets is how many packets are kept at most, of all captures together. Where there
	// are more, only those of connections that look as if they had died are.
	MostPackets int
	// MostFlows is how many connections are told apart at most, besides those that were closed
	// as they should be.
	MostFlows int
	// Progress is told how much of a capture has been read, from time to time. It may be nil.
	Progress func(path string, done, size int64)
	// Evidence is what else is known, by node.
	Evidence map[string]Tables
}

// Tables are the counters of a node before and after, in the words of recordings.
type Tables struct {
	Before, After map[string]uint64
	Sysctls       map[string]string
}

// ErrNoTCP means that captures have no TCP in them.
var ErrNoTCP = errors.New("there is no TCP in it")

// Result is what captures have shown.
type Result struct {
	// Files are the captures, in the order of the sources.
	Files []File
	// Clocks are those of all nodes but the first.
	Clocks []Clock
	// Connections are those that died.
	Connections []Connection
	// Seen is how many connections there are, Fine how many of them went well, Unbegun how many
	// began before the capture and ended without a RST; Unfinished had their SYN so late that
	// nobody knows.
	Seen, Fine, Unbegun, Unfinished int
	// Left is how many were not looked at, because of the limits. A SYN that is sent again counts
	// as another one, and those that began before the capture are not counted.
	Left int
}

// File is what a capture has.
type File struct {
	Source
	capture.Summary
}

// Connection is one attempt that died.
type Connection struct {
	// Recording has its packets, by the clock of the first node, and one step with the attempt.
	Recording recording.Recording
	// At are the captures that could have seen it.
	At []diagnose.Vantage
	// Began says that its first SYN was captured.
	Began bool
	// Shortened says that it has more packets than are kept of one connection.
	Shortened bool
}

// Diagnose says what became of the connection.
func (c *Connection) Diagnose() diagnose.Diagnosis { return diagnose.Captured(&c.Recording, c.At)[0] }

// Read reads captures.
func Read(ctx context.Context, sources []Source, o Options) (*Result, error) {
	s := scan{options: o, sources: inOrder(sources), index: map[key]*flow{}}
	for _, source := range s.sources {
		if !slices.Contains(s.nodes, source.Node) {
			s.nodes = append(s.nodes, source.Node)
		}
	}
	for i, source := range s.sources {
		sum, err := s.file(ctx, source, func(g capture.Segment) { s.learn(i, g) })
		if err != nil {
			return nil, err
		}
		if sum.Segments == 0 {
			return nil, fmt.Errorf("%s: %w: %s", source.Path, ErrNoTCP, without(sum))
		}
		s.result.Files = append(s.result.Files, File{source, sum})
	}
	s.choose()
	for i, source := range s.sources {
		if _, err := s.file(ctx, source, func(g capture.Segment) { s.keep(i, g) }); err != nil {
			return nil, err
		}
	}
	s.directions()
	s.clocks()
	s.connections()
	return &s.result, nil
}

// without says what a capture has instead of TCP.
func without(sum capture.Summary) string {
	switch {
	case sum.Frames == 0 && sum.Cut:
		return "it ends within its first packet"
	case sum.Frames == 0:
		return "it has no packets"
	case sum.Short == sum.Frames:
		return fmt.Sprintf("the snap length has cut off the TCP header of all its %d packets; capture with -s 128", sum.Frames)
	case len(sum.Unknown) > 0:
		for link := range sum.Unknown {
			return fmt.Sprintf("its packets are of link type %d, which is not read", link)
		}
	}
	return fmt.Sprintf("none of its %d packets is TCP over IPv4 or IPv6; what is in a tunnel is not looked at", sum.Frames)
}

// inOrder puts the client first and the server last.
func inOrder(sources []Source) []Source {
	rank := func(s Source) int {
		switch {
		case isClient(s.Node):
			return 0
		case isServer(s.Node):
			return 2
		}
		return 1
	}
	sorted := slices.Clone(sources)
	slices.SortStableFunc(sorted, func(a, b Source) int { return rank(a) - rank(b) })
	return sorted
}

func isClient(node string) bool { return strings.HasPrefix(node, "client") }

func isServer(node string) bool { return strings.HasPrefix(node, "server") }

// file reads a capture from its beginning.
func (s *scan) file(ctx context.Context, source Source, each func(capture.Segment)) (sum capture.Summary, err error) {
	file, err := os.Open(source.Path)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return sum, err
	}
	if !info.Mode().IsRegular() {
		return sum, fmt.Errorf("%s: it is read twice, so it must be a file, not a pipe or a directory", source.Path)
	}
	in := counting{Reader: file}
	const often = 1 << 16 // packets between two looks
	n := 0
	sum, err = capture.Read(&in, func(g capture.Segment) error {
		if n++; n%often == 0 {
			if s.options.Progress != nil {
				s.options.Progress(source.Path, in.read, info.Size())
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		each(g)
		return nil
	})
	if err != nil {
		return sum, fmt.Errorf("%s: %w", source.Path, err)
	}
	return sum, nil
}

// counting counts what was read.
type counting struct {
	io.Reader
	read int64
}

func (c *counting) Read(into []byte) (int, error) {
	n, err := c.Reader.Read(into)
	c.read += int64(n)
	return n, err
}
