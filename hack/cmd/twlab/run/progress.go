package run

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"twlab/hack/internal/cli"
	"twlab/harness/play"
	"twlab/harness/report"
)

// progress says how far a run has come: on a terminal in one line that is written again every
// second, elsewhere in a line for each step.
type progress struct {
	to       io.Writer
	terminal bool
	over     chan struct{}
	ticking  sync.WaitGroup

	mu      sync.Mutex
	where   string // empty when there is nothing to say
	what    string
	began   time.Time
	written bool
}

func newProgress(to io.Writer) *progress {
	p := &progress{to: to, terminal: cli.IsTerminal(to), over: make(chan struct{})}
	if p.terminal {
		p.ticking.Go(p.tick)
	}
	return p
}

// tick writes the line again, with the seconds that have passed.
func (p *progress) tick() {
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

// say tells that a step of a scenario begins.
func (p *progress) say(scenario string, at play.Progress) {
	p.tell(fmt.Sprintf("%s: step %d of %d", scenario, at.Step, at.Steps), at.What)
}

// tell tells one thing, which begins now: where the run is, and what happens there, which may
// be empty.
func (p *progress) tell(where, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what != "" {
		what = ": " + what
	}
	p.where, p.what, p.began = report.Plain(where), report.Plain(what), time.Now()
	if !p.terminal {
		fmt.Fprintln(p.to, p.where+p.what)
		return
	}
	p.show()
}

// show writes the line, cut to the width of the terminal. The caller has the lock.
func (p *progress) show() {
	if p.where == "" {
		return
	}
	text := []rune(fmt.Sprintf("%s, %.0f s%s", p.where, time.Since(p.began).Seconds(), p.what))
	fmt.Fprintf(p.to, "\r\x1b[K%s", string(text[:min(len(text), width(p.to)-1)]))
	p.written = true
}

// clear takes the line away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	p.where, p.written = "", false
}

// Close ends it.
func (p *progress) Close() {
	close(p.over)
	p.ticking.Wait()
	p.clear()
}

// width is how many columns a terminal has.
func width(to io.Writer) int {
	const usual = 80
	file, is := to.(*os.File)
	if !is {
		return usual
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return usual
	}
	return int(size.Col)
}
