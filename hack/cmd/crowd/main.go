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
	profile  string     // the persona's name; "" is none
	closes   string     // who closes first, a key of endings
	accepts  tcp.Ending // what the balancer does with connections
	keeps    bool       // the gateway must not evict
	series   string     // file for the rows; "" writes none
}

// firstPort is the first port that MASQUERADE gives away by itself.
const firstPort = 1024

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
	flags.DurationVar(&o.plan.Attempt.Budget, "timeout", 0, "")
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
	o.plan.Attempt.Ending, o.accepts, o.closes = ending.client, ending.balancer, *closes
	if o.plan.Attempt.Budget < 0 {
		return o, fmt.Errorf("--timeout %v: want more than 0, or 0 to wait for the kernel's own end", o.plan.Attempt.Budget)
	}

	if err := o.behind(nat{*clients, *persona, *ports, *blocks, *random, *hold}); err != nil {
		return o, err
	}
	o.topology.Sysctls = o.topology.Sysctls.
		On(lab.Client, append([]string{"net.ipv4.tcp_timestamps=" + *clientTS}, onClient...)...).
		On(lab.Gateway, onGateway...).
		On(lab.Balancer, append([]string{"net.ipv4.tcp_timestamps=" + *lbTS}, onLB...)...)
	return o, o.topology.Validate()
}

// nat is what the flags say of the gateway.
type nat struct {
	clients       int
	persona       string
	ports, blocks int
	random        string
	hold          int
}

// behind makes the topology of it.
func (o *options) behind(n nat) (err error) {
	o.topology = lab.Topology{Clients: n.clients, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}
	var p scenarios.Persona
	if n.persona != "" {
		if p, err = scenarios.PersonaNamed(n.persona); err != nil {
			return err
		}
		if o.topology, err = p.Topology(n.clients); err != nil {
			return err
		}
	}
	// One that is Linux does as its kernel does.
	o.profile, o.keeps = p.Name, !p.Evicts && (p.Hold > 0 || n.hold > 0)
	if n.ports < 0 || n.ports > 1<<16-firstPort {
		return fmt.Errorf("--ports %d: want 1 to %d, or 0 to leave them to the kernel", n.ports, 1<<16-firstPort)
	}
	if n.ports > 0 {
		o.topology.Gateway.Ports = lab.PortRange{First: firstPort, Last: uint16(firstPort + n.ports - 1)}
	}
	if n.blocks != 0 {
		o.topology.Gateway.PerClient = n.blocks
	}
	if n.random != "" {
		o.topology.Gateway.Random = map[string]lab.RandomMode{"yes": lab.Random, "fully": lab.FullyRandom}[n.random]
		if o.topology.Gateway.Random == "" && n.random != "no" {
			return fmt.Errorf("--random %s: want no, yes or fully", n.random)
		}
	}
	if n.hold < 0 {
		return fmt.Errorf("--hold %d: want seconds, or 0 for what the kernel or persona has", n.hold)
	}
	if n.hold > 0 {
		for _, after := range []string{"time_wait", "close"} { // FINs, and a RST
			o.topology.Sysctls = o.topology.Sysctls.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_%s=%d", after, n.hold))
		}
	}
	return nil
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

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	// Before a lab is built: what is wrong with the plan is said at once.
	if err := o.plan.ValidateNumbers(); err != nil {
		return err
	}
	l, err := lab.Build(ctx, o.topology)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	balancer := l.Balancer()
	door, err := balancer.Listen(ctx, tcp.ListenSpec{Ending: o.accepts})
	if err != nil {
		return err
	}
	o.plan.Clients, o.plan.Watched = l.Nodes(lab.Client), append(l.Nodes(lab.Gateway), balancer)
	o.plan.Attempt.To = door.Addr
	givesUp, err := crowd.GivesUp(ctx, o.plan.Clients[0])
	if err != nil {
		return err
	}
	timeout := o.plan.Attempt.Budget
	if timeout == 0 {
		o.plan.Attempt.Budget = givesUp + givesUp/8 + time.Minute // timers are up to an eighth late
	}
	if o.plan.InFlight == 0 {
		if o.plan.InFlight, err = o.plan.MostInFlight(); err != nil {
			return err
		}
	}
	nat, err := o.gateway(ctx, l)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, nat)
	line := progressLine{to: stderr}
	if isTerminal(stderr) {
		o.plan.Progress = line.show
	}
	r, err := crowd.Run(ctx, o.plan)
	line.clear()
	if err != nil {
		return err
	}
	report(stdout, r, nat, patience{givesUp: givesUp, own: timeout})
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
