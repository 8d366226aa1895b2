package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"twlab/hack/internal/cli"
	"twlab/harness/lab"
	"twlab/harness/recording"
	"twlab/harness/report"
	"twlab/harness/sandbox"
)

// keeper leaves a lab standing for a while.
type keeper struct {
	when   string // a word of --keep; empty for never
	text   func(io.Writer, recording.Recording) error
	stdout io.Writer
	line   *cli.Progress
	told   bool // what was recorded, before anybody looked around
}

// keep says what was recorded, prints a way into each node, and waits.
func (k *keeper) keep(ctx context.Context, seen recording.Recording, l *lab.Lab) error {
	if k.when != keepAlways && seen.Conclusion() == recording.AsExpected {
		return nil
	}
	k.line.Clear()
	if err := k.text(k.stdout, seen); err != nil {
		return err
	}
	k.told = true
	fmt.Fprintf(k.stdout, "kept until Enter is pressed; a way into each node, for another terminal of this machine:\n")
	for _, name := range slices.Sorted(maps.Keys(seen.Nodes)) {
		how, err := wayInto(l, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(k.stdout, "  %-13s  %s\n", report.Plain(name), how)
	}
	return entered(ctx, os.Stdin)
}

// wayInto is a command that runs a shell in a node. /proc is seen through the first process of
// the sandbox, whose own /proc has this one.
func wayInto(l *lab.Lab, name string) (string, error) {
	number, err := l.Descriptor(name)
	if errors.Is(err, lab.ErrGuest) {
		return "a guest, which has a kernel of its own: there is no way in", nil
	}
	if err != nil {
		return "", err
	}
	held := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), number)
	outer := os.Getenv(sandbox.OuterVariable)
	if outer == "" {
		return "nsenter --net=" + held + " bash", nil
	}
	way := fmt.Sprintf("--net=/proc/%s/root%s", outer, held)
	if ordinary() {
		// The namespaces belong to the sandbox's user namespace, and iptables wants a /run
		// to which it may write.
		way = fmt.Sprintf("--target %s --user --mount --preserve-credentials %s", outer, way)
	}
	return "nsenter " + way + " bash", nil
}

// ordinary reports whether the sandbox is that of a user who is not root: it knows nobody else.
func ordinary() bool {
	text, err := os.ReadFile("/proc/thread-self/uid_map")
	words := strings.Fields(string(text))
	return err == nil && len(words) == 3 && words[2] == "1"
}

// entered waits for a line, or for the end of ctx. The end of the input is none: it is what
// programs in the background have.
func entered(ctx context.Context, from io.Reader) error {
	line := make(chan struct{})
	go func() {
		if _, err := bufio.NewReader(from).ReadString('\n'); err == nil {
			close(line)
		}
	}()
	select {
	case <-line:
	case <-ctx.Done():
	}
	return nil
}
