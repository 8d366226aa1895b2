// Command guest runs a command in a machine that has another kernel, and brings
// its results back:
//
//	guest --kernel NAME|IMAGE --agent FILE --results DIR [--modules DIR] [--warp] [--file FILE]... -- command [argument...]
//
// The exit code is the command's, or 125 when the machine did not come so far.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"twlab/harness/kernels"
	"twlab/harness/microvm"
)

const notRun = 125

func main() {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	status, err := run(context.Background(), os.Args[1:], interrupts, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(notRun)
	}
	os.Exit(status)
}

func run(ctx context.Context, arguments []string, interrupts <-chan os.Signal, stdout, stderr io.Writer) (status int, err error) {
	job := microvm.Job{Processors: runtime.NumCPU(), Env: environment(os.Environ()), Output: stdout, Interrupts: interrupts}
	var name, modules, accelerator string
	flags := flag.NewFlagSet("guest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&name, "kernel", "", "`NAME` of a fetched kernel, or path of an image")
	flags.StringVar(&modules, "modules", "", "`directory` of the image's modules, when it is not where they usually are")
	flags.StringVar(&accelerator, "accelerator", "", "kvm or tcg; without, KVM where it works")
	flags.StringVar(&job.Agent, "agent", "", "`path` of hack/cmd/agent, built")
	flags.StringVar(&job.Results, "results", "", "`directory` to bring back, the same here and there")
	flags.IntVar(&job.MemoryMiB, "memory", 0, "`MiB` of the machine; 0 is what a suite takes")
	flags.BoolVar(&job.Warp, "warp", false, "let idle time pass at once")
	flags.Func("file", "further `file` for the machine; may be repeated", func(path string) error {
		job.Files = append(job.Files, path)
		return nil
	})
	if err := flags.Parse(arguments); err != nil {
		return 0, err
	}
	if job.Argv = flags.Args(); len(job.Argv) == 0 {
		return 0, errors.New("no command")
	}
	if job.Warp {
		// Go programs collect garbage every two minutes even when there is none,
		// which is all that they do while days pass.
		job.Env = append(job.Env, "GOGC=off", "GOMEMLIMIT=512MiB")
	}
	job.Accelerator = microvm.Accelerator(accelerator)
	if job.Kernel, err = find(name, modules); err != nil {
		return 0, err
	}
	return microvm.Run(ctx, job)
}

// find gives a kernel by its name in the cache, or by the path of its image,
// which has a slash. Modules are looked for where packages put them.
func find(name, modules string) (microvm.Kernel, error) {
	if !strings.Contains(name, "/") {
		cache, err := kernels.DefaultCache()
		if err != nil {
			return microvm.Kernel{}, err
		}
		found, err := cache.Find(name)
		if err != nil {
			return microvm.Kernel{}, fmt.Errorf("kernel %w", err)
		}
		return microvm.Kernel{Image: found.Image, Modules: found.Modules}, nil
	}
	k := microvm.Kernel{Image: name, Modules: modules}
	release, err := k.Release()
	if err != nil || modules != "" {
		return k, err
	}
	for _, dir := range []string{filepath.Join(filepath.Dir(name), "lib/modules"), "/lib/modules"} {
		if _, err := os.Stat(filepath.Join(dir, release.String(), "modules.builtin")); err == nil {
			k.Modules = filepath.Join(dir, release.String())
		}
	}
	return k, nil
}

// environment is what the command is to know of ours.
func environment(ours []string) []string {
	theirs := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "TMPDIR=/tmp"}
	for _, v := range ours {
		for _, name := range []string{"TWLAB_OUTPUT_DIR=", "GITHUB_ACTIONS=", "TERM=", "NO_COLOR="} {
			if strings.HasPrefix(v, name) {
				theirs = append(theirs, v)
			}
		}
	}
	return theirs
}
