//go:build linux

package vm

import (
	"errors"
	"strings"
	"testing"
)

// A parameter that the kernel would ignore is an error before anything boots.
func TestCheckParameter(t *testing.T) {
	m, err := openModules(modulesDir(t, "kernel/net/builtin.ko\n", map[string]string{
		"nf_conntrack.ko": "\x00parm=hashsize:\x00parm=enable_hooks:Always enable conntrack hooks",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckParameter("nf_conntrack", "enable_hooks"); err != nil {
		t.Error(err)
	}
	if err := m.CheckParameter("nf_conntrack", "hooks"); err == nil || !strings.Contains(err.Error(), "nf_conntrack.ko has no parameter hooks") {
		t.Errorf("a parameter that is not there: %v", err)
	}
	if err := m.CheckParameter("builtin", "x"); !errors.Is(err, ErrNoModule) {
		t.Errorf("a module that is built in: %v", err)
	}
}
