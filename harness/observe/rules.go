//go:build linux

package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RuleHits is one iptables or ip6tables rule, with the packets that it matched so far.
type RuleHits struct {
	IPVersion int    `json:"ipVersion"` // 4 or 6
	Table     string `json:"table"`     // "nat"
	Chain     string `json:"chain"`     // "POSTROUTING"
	// Rule is the rule as iptables-save writes it,
	// "-A POSTROUTING -o balancer -j MASQUERADE", or the policy of a chain,
	// "-P FORWARD DROP".
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"` // of IP packets, headers included
}

// String describes the rule in one line:
// "nat -A POSTROUTING -o balancer -j MASQUERADE: 3 packets, 180 bytes", and begins with
// "IPv6 " for a rule of ip6tables.
func (r RuleHits) String() string {
	version := ""
	if r.IPVersion == 6 {
		version = "IPv6 "
	}
	return fmt.Sprintf("%s%s %s: %d packets, %d bytes", version, r.Table, r.Rule, r.Packets, r.Bytes)
}

// ruleSet is where the rules of one IP version are.
type ruleSet struct {
	version int
	family  uint8  // of tables of nf_tables
	names   string // the file in /proc/net with the names of legacy tables
	command string // that lists the rules
}

// ReadRules lists the IPv4 rules of the calling thread's network namespace, and then the
// IPv6 rules, with their hits, and the policies that are not ACCEPT. The nat table counts
// only the first packet of a connection.
//
// It runs iptables-save and ip6tables-save, or the command and, for IPv6, the program with
// ip6tables in its name instead of iptables. Only "iptables-legacy-save" lists rules made by
// iptables-legacy on a system whose default is nft. A program runs only where the namespace
// has tables of its version: a process takes 3 ms and more, the question 0.1 ms. The error is
// exec.ErrNotFound when there are tables, and no program to list them.
//
// iptables -S would need a process for every chain, and with the legacy backend it creates
// every table that it lists.
func ReadRules(ctx context.Context, command string) ([]RuleHits, error) {
	command = cmp.Or(command, "iptables-save")
	var all []RuleHits
	for _, s := range []ruleSet{
		{4, unix.AF_INET, "ip_tables_names", command},
		{6, unix.AF_INET6, "ip6_tables_names", strings.Replace(command, "iptables", "ip6tables", 1)},
	} {
		some, err := s.exists()
		if err != nil {
			return nil, fmt.Errorf("list IPv%d rules: %w", s.version, err)
		}
		if !some {
			continue
		}
		rules, err := s.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("list IPv%d rules: %w", s.version, err)
		}
		all = append(all, rules...)
	}
	return all, nil
}

// exists reports whether the namespace has tables of this version: those of nf_tables, which
// nfnetlink lists (nf_tables_dump_tables), or legacy ones (xt_table_seq_show).
func (s ruleSet) exists() (bool, error) {
	names, _, err := readProcNet(s.names)
	if err == nil && len(names) > 0 || errors.Is(err, fs.ErrPermission) {
		return true, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	const message = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE
	tables, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(message, unix.NLM_F_DUMP)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: s.family, Version: nl.NFNETLINK_V0})
		return request.Execute(unix.NETLINK_NETFILTER, 0)
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // no nfnetlink in this kernel, or no nf_tables behind it
	}
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	return len(tables) > 0, nil
}

// read runs the command.
func (s ruleSet) read(ctx context.Context) ([]RuleHits, error) {
	text, err := exec.CommandContext(ctx, s.command, "-c").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
		}
		return nil, fmt.Errorf("run %s: %w", s.command, err)
	}
	rules, err := parseRules(string(text), s.version)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", s.command, err)
	}
	return rules, nil
}

// parseRules reads the format of iptables-save -c: "*table", ":CHAIN POLICY
// [packets:bytes]", "[packets:bytes] -A CHAIN rule", "COMMIT", "# comment".
func parseRules(text string, version int) ([]RuleHits, error) {
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
		hits.IPVersion, hits.Table = version, table
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
