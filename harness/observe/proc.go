//go:build linux

package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// readProcNet returns the content of a file of /proc/net for the calling thread's network
// namespace, and the path that was read.
//
// /proc/net and /proc/self/net show the namespace of the thread group leader, so it reads
// thread-self. Kernels before 3.17 do not have that; such a kernel only ever runs as a
// whole machine with one namespace, where both are the same.
func readProcNet(name string) (data []byte, path string, err error) {
	path = "/proc/thread-self/net/" + name
	data, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !exists("/proc/thread-self") {
		path = "/proc/self/net/" + name
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, path, fmt.Errorf("read kernel table: %w", err)
	}
	return data, path, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
