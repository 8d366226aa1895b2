//go:build linux

package observe

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// RuleHits is one iptables rule, with the packets that it matched so far.
type RuleHits struct {
	Table string `json:"table"` // "nat"
	Chain string `json:"chain"` // "POSTROUTING"
	// Rule is the rule as iptables-save writes it,
	// "-A POSTROUTING -o balancer -j MASQUERADE", or the policy of a chain,
	// "-P FORWARD DROP".
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of IP packets, headers included
}

// String describes the rule in one line:
// "nat -A POSTROUTING -o balancer -j MASQUERADE: 3 packets, 180 bytes".
func (r RuleHits) String() string {
	return fmt.Sprintf("%s %s: %d packets, %d bytes", r.Table, r.Rule, r.Packets, r.Bytes)
}

// ReadRules lists the IPv4 rules of the calling thread's network namespace with their hits,
// and the policies that are not ACCEPT. The nat table counts only the first packet of a
// connection.
//
// It runs command, or "iptables-save" when that is empty. Only "iptables-legacy-save" lists
// rules made by iptables-legacy on a system whose default is nft. The error is
// exec.ErrNotFound when the command does not exist.
//
// iptables -S would need a process for every chain, and with the legacy backend it creates
// every table that it lists.
func ReadRules(ctx context.Context, command string) ([]RuleHits, error) {
	if command == "" {
		command = "iptables-save"
	}
	text, err := exec.CommandContext(ctx, command, "-c").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
		}
		return nil, fmt.Errorf("list rules: run %s: %w", command, err)
	}
	rules, err := parseRules(string(text))
	if err != nil {
		return nil, fmt.Errorf("list rules: output of %s: %w", command, err)
	}
	return rules, nil
}

// parseRules reads the format of iptables-save -c: "*table", ":CHAIN POLICY
// [packets:bytes]", "[packets:bytes] -A CHAIN rule", "COMMIT", "# comment".
func parseRules(text string) ([]RuleHits, error) {
	var rules []RuleHits
	table := ""
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var (
			hits RuleHits
			err  error
		)
		switch {
		case line == "" || line == "COMMIT" || line[0] == '#':
			continue
		case line[0] == '*':
			table = line[1:]
			continue
		case line[0] == ':':
			field := strings.Fields(line[1:])
			if len(field) != 3 {
				err = fmt.Errorf("%d words, want chain, policy and counts", len(field))
				break
			}
			if field[1] == "ACCEPT" || field[1] == "-" { // "-": not a built-in chain
				continue
			}
			hits.Chain, hits.Rule = field[0], "-P "+field[0]+" "+field[1]
			hits.Packets, hits.Bytes, err = parseHits(field[2])
		default:
			counts, rule, _ := strings.Cut(line, " ")
			field := strings.Fields(rule)
			if len(field) < 2 || field[0] != "-A" {
				err = errors.New("want counts and -A with a chain")
				break
			}
			hits.Chain, hits.Rule = field[1], rule
			hits.Packets, hits.Bytes, err = parseHits(counts)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", i+1, line, err)
		}
		hits.Table = table
		rules = append(rules, hits)
	}
	return rules, nil
}

// parseHits reads "[packets:bytes]".
func parseHits(text string) (packets, bytes uint64, err error) {
	left, right, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), ":")
	if !ok {
		return 0, 0, fmt.Errorf("counts %q are not [packets:bytes]", text)
	}
	if packets, err = strconv.ParseUint(left, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("packets: %w", err)
	}
	if bytes, err = strconv.ParseUint(right, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("bytes: %w", err)
	}
	return packets, bytes, nil
}
