//go:build linux

package pcapng

import (
	"os"
	"testing"

	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
