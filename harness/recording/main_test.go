//go:build linux

package recording

import (
	"os"
	"testing"

	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
