// Package diagnose is the subcommand that says why connections died, from captures that others
// have taken.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/foreign"
	"twlab/harness/report"
	"twlab/scenarios/advice"
)

const about = `Says why connections died, from captures (pcap or pcapng) of one machine or of several on their
way. The packets of a connection are found again behind NAT, by what NAT leaves alone: numbers,
timestamps, data. The clocks of the machines are brought together by packets that two have seen.

Give the captures in the order of the way from the client. NODE is your word for the machine: one
that begins with "client" is where connections begin, one that begins with "server" where they
end, any other is a box between them. A box may have several captures, one for each side;
tcpdump -i any has all sides. A capture is good when it began before the connection did, and
kept 96 octets of each packet: tcpdump -i any -s 128 -w FILE tcp.

Captures alone prove where packets ended, and seldom why. What else is known of a node makes
facts of it: --nstat and --conntrack have what nstat -az and conntrack -S printed before and
after, --sysctl what sysctl -a prints. NODE= may be left out where there is one capture. What is
not known is said, and which single piece of evidence would decide.

--reproduce writes a scenario file that brings the cause about, for twlab run. Captures are read
as streams, twice, with a limit on what is kept in memory. It needs no privilege.

Exit status: 0 if all that died has one cause, or nothing died; 1 if something has no cause, or
several fit; 2 if a file or a flag is wrong.`

// options are those of a command line.
type options struct {
	at, nstat, conntrack, sysctl []string
	reproduce                    string
	most                         int
	ascii                        bool
}

// Command is the subcommand.
func Command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "diagnose --at NODE=FILE...",
		Short: "Say why connections died, from captures of others",
		Long:  about,
		Example: `  twlab diagnose --at client=a.pcap
  twlab diagnose --at client=a.pcap --at balancer=b.pcapng --nstat balancer=before.txt,after.txt
  twlab diagnose --at client=a.pcap --at server=b.pcap --reproduce again.yaml && twlab run again.yaml`,
	}
	f := c.Flags()
	f.StringArrayVar(&o.at, "at", nil, "`NODE=FILE`, a capture; may be repeated")
	f.StringArrayVar(&o.nstat, "nstat", nil, "`[NODE=]BEFORE,AFTER`, what nstat -az printed")
	f.StringArrayVar(&o.conntrack, "conntrack", nil, "`[NODE=]BEFORE,AFTER`, what conntrack -S printed")
	f.StringArrayVar(&o.sysctl, "sysctl", nil, "`[NODE=]FILE`, what sysctl -a prints")
	f.StringVar(&o.reproduce, "reproduce", "", "write a scenario file that brings the cause about to `FILE`")
	f.IntVar(&o.most, "packets", 0, "keep at most so many packets in memory, 0 for 300000")
	f.BoolVar(&o.ascii, "ascii", false, "draw packets in ASCII alone")
	c.RunE = func(c *cobra.Command, words []string) error {
		if len(words) > 0 {
			return cli.Usage(fmt.Errorf("%q belongs to no flag: captures are given by --at NODE=FILE", words[0]))
		}
		sources, err := o.sources()
		if err != nil {
			return cli.Usage(err)
		}
		return plainly(o.run(c.Context(), sources, c.OutOrStdout(), c.ErrOrStderr()))
	}
	return c
}

// plainly makes an error one that a terminal only shows: it may have words of a file.
func plainly(err error) error {
	var status cli.StatusError
	switch {
	case err == nil || errors.As(err, &status) && status.Err == nil:
		return err
	case errors.As(err, &status):
		return cli.StatusError{Status: status.Status, Err: errors.New(report.Plain(err.Error()))}
	}
	return cli.NotRunError(errors.New(report.Plain(err.Error())))
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)

// sources are the captures of the command line.
func (o *options) sources() (all []foreign.Source, err error) {
	if len(o.at) == 0 {
		return nil, errors.New("which capture? give at least one --at NODE=FILE")
	}
	for _, word := range o.at {
		node, path, found := strings.Cut(word, "=")
		switch {
		case !found || path == "":
			return nil, fmt.Errorf("--at %s: want NODE=FILE", report.Plain(word))
		case !nodeName.MatchString(node):
			return nil, fmt.Errorf("--at %s: a node's name is letters, digits, dots and dashes, at most 32", report.Plain(word))
		}
		all = append(all, foreign.Source{Node: node, Path: path})
	}
	return all, nil
}

func (o *options) run(ctx context.Context, sources []foreign.Source, stdout, stderr io.Writer) error {
	evidence, err := o.evidence(sources)
	if err != nil {
		return err
	}
	if o.reproduce != "" {
		if _, err := os.Lstat(o.reproduce); err == nil {
			return fmt.Errorf("'%s' is there already, and nothing is overwritten", o.reproduce)
		}
	}
	p := progress{to: stderr, terminal: cli.IsTerminal(stderr)}
	result, err := foreign.Read(ctx, sources, foreign.Options{MostPackets: o.most, Progress: p.say, Evidence: evidence})
	p.clear()
	if err != nil {
		return err
	}
	t := text{to: stdout, ascii: o.ascii, evidence: evidence}
	decided := t.result(result)
	if o.reproduce != "" {
		if err := reproduce(o.reproduce, result, stdout); err != nil {
			return err
		}
	}
	if !decided {
		return cli.StatusError{Status: cli.Failed}
	}
	return nil
}

// evidence reads what is known besides the captures.
func (o *options) evidence(sources []foreign.Source) (map[string]foreign.Tables, error) {
	all := map[string]foreign.Tables{}
	for _, flag := range []struct {
		name   string
		values []string
		read   func(io.Reader) (map[string]uint64, error)
	}{{"nstat", o.nstat, foreign.ReadNstat}, {"conntrack", o.conntrack, foreign.ReadConntrack}} {
		for _, word := range flag.values {
			node, rest, err := nodeOf(flag.name, word, sources)
			if err != nil {
				return nil, cli.Usage(err)
			}
			before, after, found := strings.Cut(rest, ",")
			if !found || before == "" || after == "" {
				return nil, cli.Usage(fmt.Errorf("--%s %s: want two files with a comma between: BEFORE,AFTER", flag.name, report.Plain(word)))
			}
			t := all[node]
			if t.Before, err = addCounters(t.Before, before, flag.read); err != nil {
				return nil, err
			}
			if t.After, err = addCounters(t.After, after, flag.read); err != nil {
				return nil, err
			}
			if err := later(t); err != nil {
				return nil, fmt.Errorf("--%s %s: %w", flag.name, word, err)
			}
			all[node] = t
		}
	}
	for _, word := range o.sysctl {
		node, path, err := nodeOf("sysctl", word, sources)
		if err != nil {
			return nil, cli.Usage(err)
		}
		t := all[node]
		if t.Sysctls, err = sysctls(path); err != nil {
			return nil, err
		}
		all[node] = t
	}
	return all, nil
}

// later finds the counters that fell: the files are the wrong way round, or the machine was
// started again between them.
func later(t foreign.Tables) error {
	for name, before := range t.Before {
		if after, there := t.After[name]; there && after < before && name != "Tcp.CurrEstab" {
			return fmt.Errorf("%s falls from %d to %d: the second file is not the later one, or the machine was started again", name, before, after)
		}
	}
	return nil
}

// nodeOf is the node that a value of a flag is about, and the rest of the value.
func nodeOf(flag, word string, sources []foreign.Source) (node, rest string, err error) {
	node, rest, named := strings.Cut(word, "=")
	if !named {
		for _, s := range sources {
			if s.Node != sources[0].Node {
				return "", "", fmt.Errorf("--%s %s: of which node? write --%[1]s NODE=%[2]s", flag, report.Plain(word))
			}
		}
		return sources[0].Node, word, nil
	}
	if !slices.ContainsFunc(sources, func(s foreign.Source) bool { return s.Node == node }) && !nodeName.MatchString(node) {
		return "", "", fmt.Errorf("--%s %s: want a node before the =", flag, report.Plain(word))
	}
	return node, rest, nil
}

func addCounters(to map[string]uint64, path string, read func(io.Reader) (map[string]uint64, error)) (map[string]uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	counters, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if to == nil {
		to = map[string]uint64{}
	}
	for name, value := range counters {
		to[name] = value
	}
	return to, nil
}

func sysctls(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f, err := advice.Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	all := map[string]string{}
	for _, s := range f.Settings {
		all[s.Name] = s.Value
	}
	return all, nil
}
