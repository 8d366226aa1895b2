package cli

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, 0)
	p.Tell("a\x1b[31m: step 1 of 2", "sleep\r1s")
	p.Tell("next", "")
	if p.Close(); out.String() != `a\x1b[31m: step 1 of 2: sleep\x0d1s`+"\nnext\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	terminal := Progress{to: &out, terminal: true, over: make(chan struct{})}
	terminal.Tell("name", strings.Repeat("x", 100))
	terminal.Close()
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[Kname, 0 s: xxx") || !strings.HasSuffix(got, "x\r\x1b[K") || len(got) > 79+2*len("\r\x1b[K") {
		t.Errorf("%q, want one line that is narrow, and taken away", got)
	}
}

// What is soon over is not worth a word; what is not over after the time of quiet is told then.
func TestProgressIsQuietAtFirst(t *testing.T) {
	for _, c := range []struct {
		takes time.Duration
		want  string
	}{
		{time.Second, ""},
		{3 * time.Second, "second\nthird\n"},
		{30 * time.Second, "first\nsecond\nthird\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := NewProgress(&out, 2*time.Second)
			for _, step := range []string{"first", "second", "third"} {
				p.Tell(step, "")
				time.Sleep(c.takes / 2) //nolint:forbidigo // nobody waits: the clock is that of the test
			}
			if p.Close(); out.String() != c.want {
				t.Errorf("steps of %v: %q, want %q", c.takes/2, out.String(), c.want)
			}
		})
	}
}
