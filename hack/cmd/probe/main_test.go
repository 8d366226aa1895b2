package main

import (
	"io"
	"strings"
	"testing"

	"twlab/harness/lab"
	"twlab/harness/microvm"
)

func TestParse(t *testing.T) {
	got, err := parse([]string{"lb=/boot/old,/lib/modules/old", "client=/boot/new"})
	if err != nil || len(got) != 2 || got[lab.Client] != (microvm.Kernel{Image: "/boot/new"}) ||
		got[lab.Balancer] != (microvm.Kernel{Image: "/boot/old", Modules: "/lib/modules/old"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, words := range [][]string{{"lb"}, {"lb="}, {"=x"}, {"proxy=x"}, {"lb=/a", "balancer=/b"}, {"lb=no-such-name"}} {
		if _, err := parse(words); err == nil || !strings.Contains(err.Error(), "--kernel "+words[len(words)-1]) {
			t.Errorf("%q: %v", words, err)
		}
	}
}

func TestWhatIsNoKernel(t *testing.T) {
	err := run(t.Context(), []string{"-agent", "agent", "lb=./main.go"}, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "balancer: ") || !strings.Contains(err.Error(), "no kernel") {
		t.Error(err)
	}
}
