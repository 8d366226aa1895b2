//go:build linux

package kernels

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"twlab/harness/kernel"
)

// Find returns a kernel image. The argument is a name in the default cache, or IMAGE or
// IMAGE,MODULES, where the path IMAGE contains a slash. Without MODULES, Find looks for the
// modules where packages put them. The error wraps [ErrNotFetched], [ErrUnknown] or
// [kernel.ErrNotImage] when one of them is the reason, and says what to do.
func Find(which string) (kernel.Image, error) {
	image, modules, _ := strings.Cut(which, ",")
	if !strings.Contains(image, "/") {
		return named(which)
	}
	var k kernel.Image
	var err error
	if k.Path, err = filepath.Abs(image); err != nil {
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
	for _, dir := range []string{filepath.Join(filepath.Dir(k.Path), "lib/modules"), "/lib/modules"} {
		dir = filepath.Join(dir, release.String())
		if _, err := os.Stat(filepath.Join(dir, "modules.builtin")); err == nil {
			k.Modules = dir
			break
		}
	}
	return k, nil
}

func named(name string) (kernel.Image, error) {
	cache, err := DefaultCache()
	if err != nil {
		return kernel.Image{}, err
	}
	found, err := cache.Find(name)
	if errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w; the path of an image has a slash", err)
	}
	return kernel.Image{Path: found.Image, Modules: found.Modules}, err
}
