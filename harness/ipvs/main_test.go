//go:build linux

package ipvs_test

import (
	"os"
	"testing"

	"twlab/harness/internal/labtest"
	"twlab/harness/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

var guestAgent = labtest.NewAgent()
