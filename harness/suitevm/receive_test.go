//go:build linux

package suitevm

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/harness/internal/agent"
	"twlab/harness/kernel"
)

type told struct{ name, content string }

func archived(t *testing.T, entries ...told) *bytes.Buffer {
	t.Helper()
	var line bytes.Buffer
	out := tar.NewWriter(&line)
	for _, e := range entries {
		if err := out.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return &line
}

func TestOldKernelsGetTheIPTablesThatTheyKnow(t *testing.T) {
	for _, c := range []struct {
		release    kernel.Release
		name, want string
	}{
		{kernel.Release{Major: 4, Minor: 17}, "iptables", "iptables-legacy"},
		{kernel.Release{Major: 4, Minor: 17}, "ip6tables-save", "ip6tables-legacy-save"},
		{kernel.Release{Major: 4, Minor: 17}, "iptables-save", "iptables-legacy-save"},
		{kernel.Release{Major: 4, Minor: 17}, "iptables-legacy-save", "iptables-legacy-save"},
		{kernel.Release{Major: 4, Minor: 17}, "iptables-nft-save", "iptables-nft-save"},
		{kernel.Release{Major: 4, Minor: 18}, "iptables-save", "iptables-save"},
	} {
		if got := iptablesFor(c.release, c.name); got != c.want {
			t.Errorf("%s on %v is %s, want %s", c.name, c.release, got, c.want)
		}
	}
}

func TestReceiveAJob(t *testing.T) {
	whole := []told{
		{agent.OutputEntry, "hel"}, {agent.OutputEntry, ""}, {agent.OutputEntry, "lo\n"},
		{agent.ResultsEntry + "evidence/cell/state.txt", "text"}, {agent.StatusEntry, "197"},
	}
	for name, c := range map[string]struct {
		line *bytes.Buffer
		says string
	}{
		"all of it":           {archived(t, whole...), ""},
		"no status":           {archived(t, whole[:4]...), errNoStatus.Error()},
		"nothing":             {&bytes.Buffer{}, errNoStatus.Error()},
		"half an entry":       {bytes.NewBuffer(archived(t, whole...).Bytes()[:700]), errNoStatus.Error()},
		"file outside":        {archived(t, told{agent.ResultsEntry + "../outside", "x"}), "escapes"},
		"status that is none": {archived(t, told{agent.StatusEntry, "well"}), "well"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "results")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			results, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer results.Close()
			var output strings.Builder
			status, err := receive(tar.NewReader(c.line), &output, results)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %q", err, c.says)
				}
				return
			}
			text, readErr := os.ReadFile(filepath.Join(dir, "evidence/cell/state.txt"))
			if err := errors.Join(err, readErr); err != nil || status != 197 || output.String() != "hello\n" || string(text) != "text" {
				t.Errorf("status %d, output %q, file %q, %v", status, output.String(), text, err)
			}
		})
	}
}
