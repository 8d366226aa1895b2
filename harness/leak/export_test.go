//go:build linux

package leak

// RunWithin is Run that writes elsewhere and waits another time.
var RunWithin = run
