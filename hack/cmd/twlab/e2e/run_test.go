package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/hack/cmd/twlab/guest"
)

func TestHowManySpecsAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		r    run
		want int
	}{
		"one":                    {run{selected: 1}, 1},
		"all quick":              {run{selected: 80}, 20},
		"many":                   {run{selected: 4000}, 48},
		"many, and memory":       {run{selected: 4000, memory: 24 << 30}, 48},
		"all, and memory":        {run{selected: 27000, memory: 24 << 30}, 11},
		"all, and too little":    {run{selected: 27000, memory: 1 << 30}, 1},
		"all wait long":          {run{selected: 30, slow: 30}, 30},
		"many of both":           {run{selected: 1000, slow: 30}, 64},
		"roles":                  {run{selected: 80, Request: Request{Kernels: []string{"balancer=x"}}}, 4},
		"a machine":              {run{Request: Request{Kernel: "x"}}, 6},
		"a machine, emulated":    {run{Request: Request{Kernel: "x"}, guest: guest.Machine{VirtualTime: true}}, 1},
		"as somebody says":       {run{selected: 80, Request: Request{Procs: 3}}, 3},
		"dry":                    {run{Request: Request{Procs: 3, dryRun: true}}, 1},
		"asleep after a failure": {run{Request: Request{Procs: 3, guestClock: "--sleep-on-failure"}}, 1},
	} {
		if got := c.r.procs(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestWhoseTimeoutItIs(t *testing.T) {
	for name, c := range map[string]struct {
		r      run
		ginkgo string
		guest  time.Duration
	}{
		"usual":   {run{}, "20m", 0},
		"said":    {run{Request: Request{Timeout: "1h"}}, "1h", 0},
		"roles":   {run{Request: Request{Kernels: []string{"balancer=x"}}}, "6h", 0},
		"virtual": {run{guest: guest.Machine{VirtualTime: true}}, "1000000h", 6 * time.Hour},
		"so, and": {run{Request: Request{Timeout: "90s"}, guest: guest.Machine{VirtualTime: true}}, "1000000h", 90 * time.Second},
	} {
		if got, err := c.r.timeout(); err != nil || got != c.ginkgo || c.r.guest.Timeout != c.guest {
			t.Errorf("%s: %s and %v (%v), want %s and %v", name, got, c.r.guest.Timeout, err, c.ginkgo, c.guest)
		}
	}
}

func TestTheFilterIsNarrowed(t *testing.T) {
	for want, r := range map[string]run{
		"":                 {},
		"x":                {Request: Request{LabelFilter: "x"}},
		"cell":             {Request: Request{Kernels: []string{"balancer=x"}}},
		"cell && (x || y)": {Request: Request{Kernels: []string{"balancer=x"}, LabelFilter: "x || y"}},
		"yours":            {Request: Request{Cell: "/file"}},
	} {
		r.filter()
		if flag := strings.Join(r.ginkgo, " "); r.LabelFilter != want || want != "" && flag != "--label-filter="+want {
			t.Errorf("%q, %q, want %q", r.LabelFilter, flag, want)
		}
	}
}

func TestWhatGinkgoSaysOfFlagsIsOneLine(t *testing.T) {
	err := wrongSelection("x\nGinkgo detected configuration issues:\n  Syntax Error\n\n   x &&\n  Learn more at: y\n")
	if err == nil || err.Error() != "Syntax Error; x &&" {
		t.Error(err)
	}
}

func TestTheOutputDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "out")
	o, err := openOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openOutput(dir); err == nil || !strings.Contains(err.Error(), "another run is using '"+dir+"'") {
		t.Errorf("a second run at the same time: %v", err)
	}
	for _, name := range []string{"junit.xml", "mine.txt", "evidence/spec", "series/a.jsonl"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Close(o.lock); err != nil {
		t.Fatal(err)
	}
	if o, err = openOutput(dir); err != nil {
		t.Fatalf("a run after it: %v", err)
	}
	for name, left := range map[string]bool{"junit.xml": false, "mine.txt": true, "evidence/spec": false, "series/a.jsonl": false, "evidence/" + madeByUs: true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != left {
			t.Errorf("%s: %v, left: %v", name, err, left)
		}
	}
	if err := errors.Join(unix.Close(o.lock), os.Remove(filepath.Join(dir, "evidence", madeByUs)), os.WriteFile(filepath.Join(dir, "evidence", "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	o, err = openOutput(dir)
	if err == nil || !strings.Contains(err.Error(), "files that hack/e2e did not make") {
		t.Errorf("evidence of somebody else: %v", err)
	}
	if err := unix.Close(o.lock); err != nil {
		t.Error(err)
	}
}

func TestWhatTheRunTookAndLeftIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "evidence"), 0o755), os.WriteFile(filepath.Join(dir, "cells.txt"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "evidence", madeByUs), nil, 0o600), os.Mkdir(filepath.Join(dir, "evidence", "a spec"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]int{"exit 7": 7, "exit 0": 0, "kill -KILL $$": 137} {
		var out strings.Builder
		status, err := told(t.Context(), []string{"sh", "-c", script}, dir, &out)
		if err != nil || status != want {
			t.Errorf("%s: status %d, %v, want %d", script, status, err, want)
		}
		if said := out.String(); !strings.HasPrefix(said, "\ntook 0.") || !strings.HasSuffix(said, "results in "+dir+":\n  cells.txt\n  evidence/a spec\n") {
			t.Errorf("%s: it says\n%s", script, said)
		}
	}
}
