package microvm

import (
	"slices"
	"strings"
	"sync"
)

// console keeps what a machine prints: its last part, when that is very much. It
// holds what QEMU itself has to say as well.
type console struct {
	mu    sync.Mutex
	text  []byte
	began chan struct{} // closed at the first byte; nil when nobody asks
}

const (
	consoleSize = 256 << 10
	tailLines   = 20
)

// Write adds to it, and never fails.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began != nil && len(c.text) == 0 && len(p) > 0 {
		close(c.began)
	}
	c.text = append(c.text, p...)
	if over := len(c.text) - consoleSize; over > 0 {
		c.text = slices.Delete(c.text, 0, over)
	}
	return len(p), nil
}

// String is what was printed.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(string(c.text), "\r", "")
}

// tail is the last lines, indented, for an error message.
func (c *console) tail() string {
	lines := strings.Split(strings.TrimRight(c.String(), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	if len(lines) == 1 && lines[0] == "" {
		return "its console is empty"
	}
	return "the end of its console:\n\t" + strings.Join(lines, "\n\t")
}
