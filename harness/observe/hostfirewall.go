//go:build linux

package observe

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// addFirewall adds the rules as the tools print them, without counters and without the
// contents of sets, which packets change.
func (s *Snapshot) addFirewall(ctx context.Context) {
	s.addRuleset(ctx, "nft", "--stateless", "--terse", "list", "ruleset")
	s.addRuleset(ctx, "iptables-save")
	s.addRuleset(ctx, "ip6tables-save")
	// For systems where the two above are the nft variants. The files list the tables that
	// exist, and are missing until the kernel has the legacy code.
	for tool, tables := range map[string]string{
		"iptables-legacy-save":  "/proc/thread-self/net/ip_tables_names",
		"ip6tables-legacy-save": "/proc/thread-self/net/ip6_tables_names",
	} {
		if names, err := os.ReadFile(tables); err == nil && len(names) > 0 {
			s.addRuleset(ctx, tool)
		}
	}
}

// noise matches what the save commands print besides the rules: comments with the time of
// day, counters of chains, and built-in chains that were never changed, which a table has
// only if some tool looked at it before.
var noise = regexp.MustCompile(`^(#.*|COMMIT|:\S+ ACCEPT( .*)?)$| *\[\d+:\d+\]$`)

func (s *Snapshot) addRuleset(ctx context.Context, tool string, arguments ...string) {
	command := exec.CommandContext(ctx, tool, arguments...) // in the calling thread's namespace, as every child
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		s.add("firewall", tool+":", "not installed")
		return
	}
	if err != nil {
		message := strings.TrimSpace(stderr.String())
		if message == "" {
			message = err.Error()
		}
		s.add("firewall", tool+":", "cannot be read:", strings.Join(strings.Fields(message), " "))
		return
	}
	// The lines will be sorted, so each one carries the headings above it.
	var headings []string
	for line := range strings.Lines(string(output)) {
		line = noise.ReplaceAllString(strings.TrimSpace(line), "")
		switch {
		case line == "":
		case strings.HasPrefix(line, "*"): // iptables-save: *nat ... COMMIT
			headings = []string{line[1:] + ":"}
		case strings.HasSuffix(line, "{"): // nft: table ip nat { chain POSTROUTING { ... } }
			headings = append(headings, strings.TrimSpace(strings.TrimSuffix(line, "{"))+":")
			s.add("firewall", tool+":", strings.Join(headings, " "))
		case line == "}":
			headings = headings[:max(0, len(headings)-1)]
		default:
			s.add("firewall", tool+":", strings.Join(append(slices.Clone(headings), line), " "))
		}
	}
}
