package scriptfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// What rules may say: nothing that leaves the node, reads a file, or starts a program.
var (
	tables  = []string{"raw", "mangle", "nat", "filter"}
	chains  = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	matches = []string{
		"addrtype", "comment", "connlimit", "connmark", "conntrack", "hashlimit", "length", "limit", "mark", "multiport", "state", "statistic",
		"tcp", "tcpmss", "ttl", "u32",
	}
	targets = []string{"ACCEPT", "CONNMARK", "CT", "DNAT", "DROP", "MARK", "MASQUERADE", "REDIRECT", "REJECT", "RETURN", "SNAT", "TCPMSS", "TCPOPTSTRIP"}
	word    = regexp.MustCompile(`^[a-zA-Z0-9_.,:;/=!+*{}\[\]-]+$`)
	// shorts are the options of one letter. There are others: -M names a program to start.
	shorts = []string{"-p", "-s", "-d", "-i", "-o", "-m", "-j", "-g", "-f"}
	// commands are the options of iptables itself that are no part of a rule, by getopt_long(3)
	// in every abbreviation.
	commands = []string{
		"append", "check", "delete", "delete-chain", "exact", "flush", "help", "insert", "ipv4", "ipv6", "line-numbers", "list", "list-rules",
		"modprobe", "new-chain", "numeric", "policy", "rename-chain", "replace", "set-counters", "table", "verbose", "version", "wait", "zero",
	}
	// selectors choose what is looked up in matches and targets; an abbreviation would not be.
	selectors = []string{"match", "jump", "goto"}
)

// option says why a rule may not have an option; empty if it may.
func option(w string) (wrong string) {
	long, isLong := strings.CutPrefix(w, "--")
	begins := func(name string) bool { return strings.HasPrefix(name, long) && name != long }
	switch {
	case !strings.HasPrefix(w, "-"):
		return ""
	case !isLong && !slices.Contains(shorts, w):
		return fmt.Sprintf("option %s: a rule may have %s with a space behind, and long options", w, strings.Join(shorts, ", "))
	case isLong && strings.Contains(w, "="):
		return fmt.Sprintf("option %s: put a space before the value", w)
	case isLong && (slices.Contains(commands, long) || slices.ContainsFunc(commands, begins) || slices.ContainsFunc(selectors, begins)):
		return fmt.Sprintf("option %s: it is none of a rule's, or an abbreviation", w)
	case long == "helper":
		return "option --helper: it loads a module for the whole machine"
	default:
		return ""
	}
}

// rule splits a rule into its table, its chain and the rest.
func (r *reader) rule(at *yaml.Node, text string) (table, chain, spec string) {
	words := strings.Fields(text)
	if len(words) < 4 || !slices.Contains(tables, words[0]) || !slices.Contains(chains, words[1]) {
		r.wrong(at, "want table, chain and rule, such as \"filter FORWARD -p tcp --dport 80 -j DROP\"; tables are %s, chains %s",
			strings.Join(tables, ", "), strings.Join(chains, ", "))
		return "", "", ""
	}
	for i, w := range words[2:] {
		before := words[i+1]
		switch wrong := option(w); {
		case wrong != "":
			r.wrong(at, "%s", wrong)
		case !word.MatchString(w):
			r.wrong(at, "%q in a rule: letters, digits and %s are allowed", w, "_.,:;/=!+*{}[]-")
		case (before == "-m" || before == "--match") && !slices.Contains(matches, w):
			r.wrong(at, "-m %s: a scenario may use %s", w, strings.Join(matches, ", "))
		case (before == "-j" || before == "--jump" || before == "-g" || before == "--goto") && !slices.Contains(targets, w):
			r.wrong(at, "-j %s: a scenario may use %s", w, strings.Join(targets, ", "))
		}
	}
	return words[0], words[1], strings.Join(words[2:], " ")
}

var braced = regexp.MustCompile(`\{([^{}]*)\}:?`)

// resolve writes the addresses of names, and the interfaces of neighbours, into a rule. A rule
// with an address is of the version of the last one.
func resolve(s *script.Scenario, plan topo.Plan, at, spec string) (resolved string, version topo.IPVersion, wrong string) {
	resolved = braced.ReplaceAllStringFunc(spec, func(in string) string {
		name, port := strings.CutSuffix(in, ":")
		name, six := strings.CutSuffix(strings.Trim(name, "{}"), ".ipv6")
		a := s.Addr(plan, script.Endpoint{Name: name, Six: six})
		if version = topo.IPv4; a.Is6() {
			version = topo.IPv6
		}
		switch {
		case !a.IsValid():
			wrong = fmt.Sprintf("no node or address %q", name)
			return in
		case port && a.Is6():
			return "[" + a.String() + "]:"
		case port:
			return a.String() + ":"
		}
		return a.String()
	})
	n, _ := plan.Node(at)
	words := strings.Fields(resolved)
	for i := 1; i < len(words); i++ {
		switch words[i-1] {
		case "-i", "-o", "--in-interface", "--out-interface":
		default:
			continue
		}
		end, found := n.Toward(words[i])
		if !found && words[i] != "lo" {
			wrong = fmt.Sprintf("%s has no link to %q", at, words[i])
			continue
		}
		if found {
			words[i] = end.Interface
		}
	}
	return strings.Join(words, " "), version, wrong
}

// resolveSteps does that for the rules that steps add.
func (r *reader) resolveSteps(s *script.Scenario) {
	plan, err := s.Network.Plan()
	if err != nil {
		return
	}
	for i, step := range s.Steps {
		add, ok := step.Do.(script.AddRule)
		if !ok {
			continue
		}
		var wrong string
		if add.Spec, add.IP, wrong = resolve(s, plan, add.Node, add.Spec); wrong != "" {
			r.problem(script.Problem{Path: []string{"steps", fmt.Sprint(i), "add-rule", "rule"}, Text: wrong})
		}
		s.Steps[i].Do = add
	}
}
