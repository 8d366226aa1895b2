package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"twlab/harness/report"
)

// Progress says how far something has come: on a terminal in one line that is written again
// every second, elsewhere in a line for each thing that begins.
type Progress struct {
	to       io.Writer
	terminal bool
	over     chan struct{}
	ticking  sync.WaitGroup

	mu      sync.Mutex
	silent  bool   // it may be over soon
	where   string // empty when there is nothing to say
	what    string
	began   time.Time
	written bool
}

// NewProgress begins to say something to somebody. What is over within the time of quiet is not
// worth a word.
func NewProgress(to io.Writer, quiet time.Duration) *Progress {
	p := &Progress{to: to, terminal: IsTerminal(to), silent: quiet > 0, over: make(chan struct{})}
	if p.terminal || p.silent {
		p.ticking.Go(func() { p.tick(quiet) })
	}
	return p
}

// tick writes the line when the time of quiet is over, and on a terminal every second again, with
// the seconds that have passed.
func (p *Progress) tick(quiet time.Duration) {
	if quiet > 0 {
		select {
		case <-p.over:
			return
		case <-time.After(quiet):
			p.mu.Lock()
			p.silent = false
			p.show()
			p.mu.Unlock()
		}
	}
	if !p.terminal {
		return
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-p.over:
			return
		case <-every.C:
			p.mu.Lock()
			p.show()
			p.mu.Unlock()
		}
	}
}

// Tell tells one thing, which begins now: where the run is, and what happens there, which may
// be empty.
func (p *Progress) Tell(where, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what != "" {
		what = ": " + what
	}
	p.where, p.what, p.began = report.Plain(where), report.Plain(what), time.Now()
	p.show()
}

// show writes what was told last; on a terminal in the line that it has, cut to the width. The
// caller has the lock.
func (p *Progress) show() {
	switch {
	case p.silent || p.where == "":
	case !p.terminal:
		fmt.Fprintln(p.to, p.where+p.what)
	default:
		text := []rune(fmt.Sprintf("%s, %.0f s%s", p.where, time.Since(p.began).Seconds(), p.what))
		fmt.Fprintf(p.to, "\r\x1b[K%s", string(text[:min(len(text), width(p.to)-1)]))
		p.written = true
	}
}

// Clear takes the line away.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	p.where, p.written = "", false
}

// Close ends it.
func (p *Progress) Close() {
	close(p.over)
	p.ticking.Wait()
	p.Clear()
}
