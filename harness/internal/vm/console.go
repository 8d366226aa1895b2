//go:build linux

package vm

import (
	"slices"
	"strings"
	"sync"
)

// Console keeps what a machine prints, and only the last part of it when that is very long.
// It also keeps the messages of QEMU itself.
type Console struct {
	mu    sync.Mutex
	text  []byte
	Began chan struct{} // closed at the first byte; nil when not needed
}

const (
	consoleSize = 256 << 10
	tailLines   = 20
)

// Write adds to the console and never fails.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Began != nil && len(c.text) == 0 && len(p) > 0 {
		close(c.Began)
	}
	c.text = append(c.text, p...)
	if over := len(c.text) - consoleSize; over > 0 {
		c.text = slices.Delete(c.text, 0, over)
	}
	return len(p), nil
}

// String returns what was printed.
func (c *Console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(string(c.text), "\r", "")
}

// Panicked returns the line in which the kernel says why it panicked; empty when it did
// not.
func (c *Console) Panicked() string {
	const why = "Kernel panic - "
	text := c.String()
	from := strings.LastIndex(text, why)
	if from < 0 {
		return ""
	}
	line, _, _ := strings.Cut(text[from:], "\n")
	return line
}

// Tail returns the last lines, indented, for an error message. They come after the last
// line that says why the kernel panicked, because a stack dump may follow that line.
func (c *Console) Tail() string {
	lines := strings.Split(strings.TrimRight(c.String(), "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return "its console is empty"
	}
	from := max(0, len(lines)-tailLines)
	end := lines[from:]
	for i := from - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "Kernel panic - ") {
			end = append([]string{lines[i], "..."}, end...)
			break
		}
	}
	return "the end of its console:\n\t" + strings.Join(end, "\n\t")
}
