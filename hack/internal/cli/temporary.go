//go:build linux

package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"twlab/harness/sandbox"
)

// keeper makes a directory in $1 whose name begins with $2, says which, and removes it when
// its standard input ends. Programs that die at that moment may still make files, so that it
// tries again, for ten seconds.
const keeper = `trap "" HUP INT QUIT TERM
dir=$(mktemp -d "$1/$2XXXXXXXX") || exit
echo "$dir"
read -r _
tries=100
until rm -rf "$dir"; do
	[ $((tries -= 1)) -gt 0 ] || exit 1
	sleep 0.1
done 2>/dev/null`

// Temporary calls a function with a new directory that is gone afterwards, and also when this
// process is killed. A child process sees to that: it makes the directory and removes it when
// nobody holds the other end of its standard input any more, which ends with this process. In
// a sandbox, whose processes all end together, the directory is in memory and goes with it.
func Temporary(prefix string, do func(dir string) error) (err error) {
	in := os.TempDir()
	if os.Getenv(sandbox.Variable) != "" {
		in = "/run"
	}
	c := exec.Command("sh", "-c", keeper, "sh", in, prefix) //nolint:gosec,noctx // ours, and it outlives whoever is cancelled
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}     // no Ctrl-C reaches it
	var said bytes.Buffer
	c.Stderr = &said
	alive, err := c.StdinPipe()
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() {
		if gone := errors.Join(alive.Close(), c.Wait()); gone != nil {
			err = errors.Join(err, fmt.Errorf("temporary directory: %w: %s", gone, strings.TrimSpace(said.String())))
		}
	}()
	dir, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	return do(strings.TrimSuffix(dir, "\n"))
}
