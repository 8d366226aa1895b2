//go:build linux

package haproxy_test

import (
	"os"
	"testing"

	"twlab/harness/haproxy"
	"twlab/harness/internal/exampletest"
)

func TestMain(m *testing.M) { os.Exit(exampletest.Main(m, haproxy.Requirement())) }
