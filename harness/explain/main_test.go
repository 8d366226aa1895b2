//go:build linux

package explain_test

import (
	"os"
	"testing"

	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }
