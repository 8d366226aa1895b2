// Package failure words an error for people: plainly, and once.
package failure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twlab/harness/guest"
	"twlab/harness/kernel"
)

// Text is what could not be done, what went wrong there, and what to do about it,
// each line once. What a dead machine has printed goes to a file in the directory
// of the evidence, and into the text only when there is no such directory.
func Text(what string, err error, evidence string) string {
	lines := []string{what + ":"}
	for line := range strings.Lines(err.Error()) {
		if line = "  " + strings.TrimSpace(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	var dead *guest.DeadError
	if errors.As(err, &dead) {
		lines = append(lines, "  "+keepConsole(dead.Console, evidence))
	} else if advice := advice(err); advice != "" {
		lines = append(lines, "  "+advice)
	}
	return strings.Join(lines, "\n")
}

// advice is what to do about an error that does not say so itself.
func advice(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "It was waited for until the time was up. What each node had by then is in the evidence (state.txt, packets.pcapng); " +
			"sysctls of your own may be what prevents it."
	case errors.Is(err, kernel.ErrSysctlUnknown), errors.Is(err, kernel.ErrSysctlGone), errors.Is(err, kernel.ErrSysctlNotYet):
		return "Leave the sysctl out, or choose a kernel that has it (--kernel)."
	}
	return ""
}

// keepConsole writes what a machine has printed among the evidence, and says where
// that is.
func keepConsole(text, evidence string) string {
	if evidence == "" {
		return text
	}
	file := filepath.Join(evidence, "console.txt")
	if err := errors.Join(os.MkdirAll(evidence, 0o755), os.WriteFile(file, []byte(text+"\n"), 0o644)); err != nil {
		return fmt.Sprintf("%s\n(not written among the evidence: %v)", text, err)
	}
	return "The end of its console is in " + file
}
