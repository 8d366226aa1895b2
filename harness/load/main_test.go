//go:build linux

package load_test

import (
	"os"
	"testing"

	"twlab/harness/internal/exampletest"
)

func TestMain(m *testing.M) { os.Exit(exampletest.Main(m)) }
