package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// HasSymbol reports whether the running kernel has a function or variable of this name
// (/proc/kallsyms). Unknown means that this kernel does not list its symbols. A static
// function that the compiler has inlined has no symbol.
func HasSymbol(name string) (Fact, error) {
	file, err := os.Open("/proc/kallsyms")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Unknown, nil
	}
	if err != nil {
		return Unknown, fmt.Errorf("look for symbol %s: %w", name, err)
	}
	defer file.Close()
	lines, empty := bufio.NewScanner(file), true
	for lines.Scan() {
		empty = false
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && fields[2] == name {
			return Yes, nil
		}
	}
	if err := lines.Err(); err != nil {
		return Unknown, fmt.Errorf("look for symbol %s: %w", name, err)
	}
	if empty {
		return Unknown, nil
	}
	return No, nil
}
