package microvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"twlab/harness/kernels"
)

// FindKernel gives the kernel that people call by its name in the default cache of
// package kernels, or as IMAGE or IMAGE,MODULES, paths of which the first has a
// slash. Without MODULES they are looked for where packages put them. The error
// wraps kernels.ErrNotFetched, kernels.ErrUnknown or [ErrNotKernel] when it is
// that, and says what to do.
func FindKernel(which string) (Kernel, error) {
	image, modules, _ := strings.Cut(which, ",")
	if !strings.Contains(image, "/") {
		return named(which)
	}
	var k Kernel
	var err error
	if k.Image, err = filepath.Abs(image); err != nil {
		return k, err
	}
	if modules != "" {
		if k.Modules, err = filepath.Abs(modules); err != nil {
			return k, err
		}
	}
	release, err := k.Release()
	if err != nil || k.Modules != "" {
		return k, err
	}
	for _, dir := range []string{filepath.Join(filepath.Dir(k.Image), "lib/modules"), "/lib/modules"} {
		dir = filepath.Join(dir, release.String())
		if _, err := os.Stat(filepath.Join(dir, "modules.builtin")); err == nil {
			k.Modules = dir
			break
		}
	}
	return k, nil
}

func named(name string) (Kernel, error) {
	cache, err := kernels.DefaultCache()
	if err != nil {
		return Kernel{}, err
	}
	found, err := cache.Find(name)
	if errors.Is(err, kernels.ErrUnknown) {
		err = fmt.Errorf("%w; the path of an image has a slash", err)
	}
	return Kernel{Image: found.Image, Modules: found.Modules}, err
}
