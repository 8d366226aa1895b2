//go:build linux

package haproxy

// Text is the configuration as HAProxy reads it.
func (c Config) Text() (string, error) { return c.text() }
