//go:build linux

package foreign

import (
	"os"
	"testing"

	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
