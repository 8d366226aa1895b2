package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// benchSuite runs hack/e2e without the slow specs: several times for its wall
// time, which includes the check that the programs are up to date, and once more
// what it runs after that, for the memory of the largest process. (Go's linker
// would be the largest one otherwise.)
func benchSuite(ctx context.Context, t *table, o options) error {
	quick := []string{"--label-filter=!slow"}
	script := append([]string{"hack/e2e", "--output-dir", o.e2e}, quick...)
	if _, err := execute(ctx, script); err != nil { // builds everything
		return err
	}
	var wall sample
	for range o.rounds {
		began := time.Now()
		if _, err := execute(ctx, script); err != nil {
			return err
		}
		wall.add(time.Since(began))
	}
	bin := func(name string) string { return filepath.Join(o.e2e, "bin", name) }
	state, err := execute(ctx, append([]string{"hack/twlab", "sandbox", "--", bin("ginkgo"), "run", "--procs=8"}, append(quick, bin("e2e.test"))...))
	if err != nil {
		return err
	}
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no resource usage on this system")
	}
	t.alone("hack/e2e --label-filter '!slow': wall time", wall, seconds)
	t.alone("hack/e2e --label-filter '!slow': largest process", sample{float64(usage.Maxrss) * 1024}, mebibytes)
	return nil
}

// execute runs a command quietly, unless it fails.
func execute(ctx context.Context, argv []string) (*os.ProcessState, error) {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = time.Minute
	var words bytes.Buffer
	command.Stdout, command.Stderr = &words, &words
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", argv, err, words.Bytes())
	}
	return command.ProcessState, nil
}
