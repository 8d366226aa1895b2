//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ModuleList is the file that lists the modules of the initramfs, one per line, in the
// order in which to load them.
const ModuleList = "/modules/order"

// loadModules loads the listed modules with their parameters. A module that is already loaded
// is not an error unless it has parameters, which it would not get.
func loadModules(parameters map[string]string) error {
	list, err := os.ReadFile(ModuleList)
	if err != nil {
		return fmt.Errorf("list of modules: %w", err)
	}
	for file := range strings.FieldsSeq(string(list)) {
		values := parameters[strings.TrimSuffix(path.Base(file), ".ko")]
		if err := loadModule(file, values); err != nil && (values != "" || !errors.Is(err, unix.EEXIST)) {
			return fmt.Errorf("load module %s %s: %w", file, values, err)
		}
	}
	return nil
}

// loadModule loads a module with finit_module (Linux 3.8), or else with init_module.
func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), parameters, 0)
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	image, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return unix.InitModule(image, parameters)
}
