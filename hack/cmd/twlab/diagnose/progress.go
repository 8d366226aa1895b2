package diagnose

import (
	"fmt"
	"io"

	"twlab/harness/report"
)

// progress says how much of a large capture has been read.
type progress struct {
	to       io.Writer
	terminal bool
	path     string
	told     int64 // in percent
	written  bool
}

const (
	large = 64 << 20 // bytes from which on it is worth a word
	often = 10       // percent, where nobody watches
)

func (p *progress) say(path string, done, size int64) {
	if size < large {
		return
	}
	percent := done * 100 / size
	if path == p.path && percent >= p.told && percent < p.told+1 || path == p.path && !p.terminal && percent >= p.told && percent < p.told+often {
		return
	}
	p.path, p.told = path, percent
	line := fmt.Sprintf("reading %s: %d %% of %d MB", report.Plain(path), percent, size/1_000_000)
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s", line)
		p.written = true
		return
	}
	fmt.Fprintln(p.to, line)
}

// clear takes the line away.
func (p *progress) clear() {
	if p.written {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
