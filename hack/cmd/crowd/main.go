// Command crowd has many clients connect through a gateway to a balancer, and
// says what came of it: how many got in, how late, who refused the others, and how
// full the tables became. hack/crowd builds it and runs it in the sandbox.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/crowd"
	"twlab/harness/lab"
	"twlab/harness/tcp"
	"twlab/scenarios"
)

func main() {
	// These end the run by an error, so that deferred calls take everything down.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hack/crowd:", err)
		os.Exit(1)
	}
}

// options is what the command line asks for.
type options struct {
	plan     crowd.Plan // without nodes and door
	topology lab.Topology
	accepts  tcp.Ending // what the balancer does with connections
	series   string     // file for the rows; "" writes none
}

// endings are what --close may say: what the client does, and the balancer.
var endings = map[string]struct{ client, balancer tcp.Ending }{
	"lb":     {tcp.CloseAfterPeer, tcp.CloseFirst},
	"client": {tcp.CloseFirst, tcp.CloseAfterPeer},
	"rst":    {tcp.Abort, tcp.CloseAfterPeer},
	"never":  {tcp.KeepOpen, tcp.KeepOpen},
}

func parse(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("crowd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it, once
	// What they mean is in the usage of hack/crowd.
	var (
		clients   = flags.Int("clients", 100, "")
		ports     = flags.Int("ports", 0, "")
		hold      = flags.Int("hold", 0, "")
		blocks    = flags.Int("per-client", 0, "")
		random    = flags.String("random", "", "")
		persona   = flags.String("persona", "", "")
		closes    = flags.String("close", "lb", "")
		clientTS  = flags.String("client-ts", "1", "")
		lbTS      = flags.String("lb-ts", "1", "")
		onClient  settings
		onGateway settings
		onLB      settings
	)
	flags.IntVar(&o.plan.Each, "each", 0, "")
	flags.Float64Var(&o.plan.Rate, "rate", 0, "")
	flags.DurationVar(&o.plan.Duration, "for", 0, "")
	flags.IntVar(&o.plan.InFlight, "in-flight", 0, "")
	flags.Uint64Var(&o.plan.Seed, "seed", 1, "")
	flags.StringVar(&o.series, "series", "", "")
	flags.Var(&onClient, "client-sysctl", "")
	flags.Var(&onGateway, "gateway-sysctl", "")
	flags.Var(&onLB, "lb-sysctl", "")
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		return o, errors.New("see hack/crowd --help")
	} else if err != nil {
		return o, fmt.Errorf("%w; see hack/crowd --help", err)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("argument %q belongs to no flag; see hack/crowd --help", flags.Arg(0))
	}
	ending, known := endings[*closes]
	if !known {
		return o, fmt.Errorf("--close %s: want one of %s", *closes, strings.Join(slices.Sorted(maps.Keys(endings)), ", "))
	}
	o.plan.Attempt.Ending, o.accepts = ending.client, ending.balancer

	o.topology = lab.Topology{Clients: *clients, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}
	if *persona != "" {
		if o.topology, err = ofPersona(*persona, *clients); err != nil {
			return o, err
		}
	}
	const first = 1024 // the first port that MASQUERADE gives away by itself
	if *ports < 0 || *ports > 1<<16-first {
		return o, fmt.Errorf("--ports %d: want 1 to %d, or 0 to leave them to the kernel", *ports, 1<<16-first)
	}
	if *ports > 0 {
		o.topology.Gateway.Ports = lab.PortRange{First: first, Last: uint16(first + *ports - 1)}
	}
	if *blocks != 0 {
		o.topology.Gateway.PerClient = *blocks
	}
	if *random != "" {
		o.topology.Gateway.Random = map[string]lab.RandomMode{"yes": lab.Random, "fully": lab.FullyRandom}[*random]
		if o.topology.Gateway.Random == "" && *random != "no" {
			return o, fmt.Errorf("--random %s: want no, yes or fully", *random)
		}
	}
	if *hold < 0 {
		return o, fmt.Errorf("--hold %d: want seconds, or 0 for what the kernel or persona has", *hold)
	}
	if *hold > 0 {
		onGateway = append(onGateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_time_wait=%d", *hold))
	}
	o.topology.Sysctls = o.topology.Sysctls.
		On(lab.Client, append([]string{"net.ipv4.tcp_timestamps=" + *clientTS}, onClient...)...).
		On(lab.Gateway, onGateway...).
		On(lab.Balancer, append([]string{"net.ipv4.tcp_timestamps=" + *lbTS}, onLB...)...)
	return o, o.topology.Validate()
}

// settings are the values of a flag that may be given more than once.
type settings []string

// String is what the flag package wants of a default.
func (s *settings) String() string { return strings.Join(*s, " ") }

// Set adds one "name=value".
func (s *settings) Set(value string) error {
	*s = append(*s, value)
	return nil
}

// ofPersona is a lab with the persona as it is, with all its ports.
func ofPersona(name string, clients int) (lab.Topology, error) {
	all := scenarios.Personas()
	i := slices.IndexFunc(all, func(p scenarios.Persona) bool { return p.Name == name })
	if i < 0 {
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		return lab.Topology{}, fmt.Errorf("no persona %q: want one of %s", name, strings.Join(names, ", "))
	}
	return all[i].Topology(clients)
}

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	l, err := lab.Build(ctx, o.topology)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	balancer := l.Nodes(lab.Balancer)[0]
	door, err := balancer.Listen(ctx, tcp.ListenSpec{Ending: o.accepts})
	if err != nil {
		return err
	}
	o.plan.Clients, o.plan.Watched = l.Nodes(lab.Client), append(l.Nodes(lab.Gateway), balancer)
	o.plan.Attempt.To = door.Addr
	line := progressLine{to: stderr}
	if isTerminal(stderr) {
		o.plan.Progress = line.show
	}
	r, err := crowd.Run(ctx, o.plan)
	line.clear()
	if err != nil {
		return err
	}
	report(stdout, r)
	return o.writeSeries(r)
}

func (o options) writeSeries(r crowd.Result) (err error) {
	if o.series == "" {
		return nil
	}
	file, err := os.Create(o.series)
	if err != nil {
		return err
	}
	return errors.Join(crowd.WriteSeries(file, r.Series), file.Close())
}

// report says what came of the crowd.
func report(to io.Writer, r crowd.Result) {
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	line := func(what string, count int64, note string) { fmt.Fprintf(table, "%s\t%d\t%s\n", what, count, note) }
	schedule := fmt.Sprintf("by %d clients in %v, seed %d", r.Clients, r.Took.Round(time.Millisecond), r.Seed)
	if r.Offered > 0 {
		schedule += fmt.Sprintf("; %.0f/s offered, %.0f/s begun, behind %v", r.Offered, r.Achieved, r.Behind)
	}
	line("attempts", int64(r.Attempts), schedule)
	for _, v := range slices.Sorted(maps.Keys(r.Verdicts)) {
		note := ""
		if v == tcp.Connected {
			note = fmt.Sprintf("%d late; %v", r.Late, r.Latency)
		}
		line("  "+string(v), int64(r.Verdicts[v]), note)
	}
	f := scenarios.FatesOf(r)
	line("SYNs", f.Sent, "")
	for _, fate := range []struct {
		what  string
		count int64
		note  string
	}{
		{"accepted", f.Accepted, ""},
		{"dropped by the gateway", f.Gateway, "no port: insert_failed"},
		{"refused for the timestamp", f.Clock, "by a TIME_WAIT of the balancer"},
		{"refused for the number", f.Number, "by a TIME_WAIT of the balancer"},
		{"dropped by the queue", f.Queue, "of the balancer: ListenOverflows"},
		{"refused by the door", f.Closed, "nobody listens"},
		{"not accounted for", f.Unaccounted(), "a packet that was late, or ends that crossed"},
	} {
		if fate.count != 0 {
			line("  "+fate.what, fate.count, fate.note)
		}
	}
	_ = table.Flush() // to where errors are nobody's business, as with fmt.Fprintf
	if n := len(r.Series); n > 0 {
		fmt.Fprintf(to, "in the end: %v\n", r.Series[n-1])
	}
}

// progressLine is one line of a terminal, written again and again.
type progressLine struct {
	to      io.Writer
	written bool
}

func (p *progressLine) show(r crowd.Row) {
	const width = 110
	text := r.String()
	fmt.Fprintf(p.to, "\r\x1b[K%s", text[:min(len(text), width)])
	p.written = true
}

func (p *progressLine) clear() {
	if p.written {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

// isTerminal tells whether somebody sees what is written.
func isTerminal(to io.Writer) bool {
	file, is := to.(*os.File)
	if !is {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
