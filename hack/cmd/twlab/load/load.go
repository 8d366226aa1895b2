// Package load is the subcommand that lets many clients connect through a gateway to a
// balancer, and reports the result: how many connected, how late, who refused the others, and
// how full the tables became.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"twlab/scenarios/nat"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
	"twlab/harness/explain"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/sandbox"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

const about = `Builds a lab with many clients, a gateway and a balancer in a private sandbox, and lets the
clients connect. It prints how many clients connected and how late, who refused the
others, and where the TIME_WAITs are. A terminal shows a progress line in the meantime.

The first line describes the gateway: how many ports it has, how long it keeps each of
them, and how many connections per second this allows.

Exit status: 0 if the load ran, whatever its result; 1 if it did not run, 2 for wrong
usage.`

// Command is the subcommand.
func Command() *cobra.Command {
	var r request
	c := &cobra.Command{
		Use:   "load {--each N | --rate N --for TIME} [flags]",
		Short: "Make many connections through a gateway: which succeed, and who refuses the others",
		Long:  about,
		Example: `  twlab load --clients 2 --profile gcp --rate 8 --for 30s
  twlab load --clients 1 --each 100 --profile gcp --close never --timeout 10s`,
		Args: cli.NoArguments,
	}
	r.flags(c.Flags())
	for flag, words := range map[string]func() []string{
		"profile": profiles, "close": func() []string { return slices.Sorted(maps.Keys(endings)) }, "random": func() []string { return []string{"no", "yes", "fully"} },
		"explain": func() []string { return whether }, "ip": func() []string { return slices.Sorted(maps.Keys(versions)) },
	} {
		// The error is of a flag that is not there.
		_ = c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return words(), cobra.ShellCompDirectiveNoFileComp
		})
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := r.options()
		if err != nil {
			return cli.Usage(err)
		}
		// Before a lab is built: what is wrong with the plan is said at once.
		if err := o.plan.ValidateNumbers(); err != nil {
			return cli.Usage(err)
		}
		return enter(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// enter runs the load in a sandbox, which it enters when it is in none.
func enter(ctx context.Context, o options, stdout, stderr io.Writer) error {
	// These end the run by an error, so that deferred calls take everything down.
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	if os.Getenv(sandbox.Variable) != "" {
		return o.run(ctx, stdout, stderr)
	}
	k, err := kit.Find()
	if err != nil {
		return err
	}
	if k.Tree != "" && k.Built == "" {
		if err := cli.Bootstrap(ctx, k.Tree); err != nil {
			return err
		}
	}
	return cli.Enter()
}

func profiles() (names []string) {
	for _, p := range nat.Profiles() {
		names = append(names, p.Name)
	}
	return names
}

// options is what the command line asks for.
type options struct {
	plan      load.Plan // without nodes and listener
	topology  lab.Topology
	profile   string     // the profile's name; "" is none
	closes    string     // who closes first, a key of endings
	accepts   tcp.Ending // what the balancer does with connections
	keeps     bool       // the gateway must not evict
	series    string     // file for the rows; "" writes none
	explained string     // whether it is looked at why attempts do not connect at once: yes, no or auto
}

// whether are what --explain may say.
var whether = []string{"yes", "no", "auto"}

// firstPort is the first port that MASQUERADE gives away by itself.
const firstPort = 1024

// endings are what --close may say: what the client does, and the balancer.
var endings = map[string]struct{ client, balancer tcp.Ending }{
	"balancer": {tcp.CloseAfterPeer, tcp.CloseFirst},
	"client":   {tcp.CloseFirst, tcp.CloseAfterPeer},
	"rst":      {tcp.Abort, tcp.CloseAfterPeer},
	"never":    {tcp.KeepOpen, tcp.KeepOpen},
}

// versions are what --ip may say. A connection has one of them, so there is no "both".
var versions = map[string]topo.IPVersion{"4": topo.IPv4, "6": topo.IPv6}

// request is what the flags say.
type request struct {
	plan                 load.Plan
	behind               behind
	closes, series       string
	ip                   string
	clientTS, balancerTS string
	onClient, onBalancer []string // sysctls
	onGateway            []string
	explain              string
}

func (r *request) flags(to *pflag.FlagSet) {
	to.SortFlags = false
	to.IntVar(&r.behind.clients, "clients", 100, "number of clients")
	to.IntVar(&r.plan.Each, "each", 0, "connections of each client; with --rate: at that rate")
	to.Float64Var(&r.plan.Rate, "rate", 0, "attempts per second of all clients together")
	to.DurationVar(&r.plan.Duration, "for", 0, "with --rate: how long, such as 30s")
	to.IntVar(&r.plan.InFlight, "in-flight", 0, "maximum number of attempts at the same time (default: all, as\nfar as this process may open descriptors)")
	to.DurationVar(&r.plan.Attempt.Budget, "timeout", 0, "how long an attempt waits for an answer (default: until the\n"+
		"kernel says ETIMEDOUT, after about 131 s; --client-sysctl\nnet.ipv4.tcp_syn_retries=N changes that)")
	to.StringVar(&r.closes, "close", "balancer", "`WHO` closes first: balancer, client, rst (the client, with a RST),\nnever (connections stay open)")
	to.StringVar(&r.ip, "ip", "4", "version of IP: 4 or 6")
	to.StringVar(&r.behind.profile, "profile", "", "kind of gateway: its ports, blocks, way to choose a port and conntrack\n"+
		"timeout; `NAME` is one of "+strings.Join(profiles(), ", ")+"\n(scenarios/RULES.md has the sources)")
	to.IntVar(&r.behind.ports, "ports", 0, "number of ports of the gateway (default: that of the profile or kernel)")
	to.IntVar(&r.behind.blocks, "per-client", 0, "size of a block of ports for each client (needs --ports)")
	to.StringVar(&r.behind.random, "random", "", "how the gateway chooses a port: no, yes or fully")
	to.IntVar(&r.behind.timeout, "conntrack-timeout", 0, "how many `seconds` the gateway keeps the port of an ended connection.\n"+
		"With this flag, or with a profile that is not Linux, it keeps each\n"+
		"port for the whole time, even if its kernel would reuse the port\nearlier (Linux 6.5 and later)")
	to.StringVar(&r.clientTS, "client-ts", "1", "tcp_timestamps of the clients: 0, 1 or 2")
	to.StringVar(&r.balancerTS, "balancer-ts", "1", "tcp_timestamps of the balancer: 0, 1 or 2")
	to.StringArrayVar(&r.onClient, "client-sysctl", nil, "`NAME=VALUE` of another sysctl of the clients; may be repeated")
	to.StringArrayVar(&r.onGateway, "gateway-sysctl", nil, "`NAME=VALUE` of a sysctl of the gateway; may be repeated")
	to.StringArrayVar(&r.onBalancer, "balancer-sysctl", nil, "`NAME=VALUE` of a sysctl of the balancer; may be repeated")
	to.Uint64Var(&r.plan.Seed, "seed", 1, "seed of the random order of the clients")
	to.StringVar(&r.explain, "explain", "auto", "say why attempts did not connect at once: yes, no or auto. It records the\n"+
		"packets of all links, which makes fast loads slower: auto is yes up to\n"+fmt.Sprintf("%d attempts, or %d per second", explain.MostWhole, fastest))
	to.StringVar(&r.series, "series", "", "`FILE` that gets a line of JSON for each second")
}

// options is what the request comes to.
func (r request) options() (options, error) {
	o := options{plan: r.plan, series: r.series, closes: r.closes, explained: r.explain}
	ending, known := endings[r.closes]
	if !known {
		return o, fmt.Errorf("--close %s: want one of %s", r.closes, strings.Join(slices.Sorted(maps.Keys(endings)), ", "))
	}
	o.plan.Attempt.Ending, o.accepts = ending.client, ending.balancer
	if !slices.Contains(whether, o.explained) {
		return o, fmt.Errorf("--explain %s: want yes, no or auto", o.explained)
	}
	if o.plan.Attempt.Budget < 0 {
		return o, fmt.Errorf("--timeout %v: want more than 0, or 0 to wait for the kernel's own end", o.plan.Attempt.Budget)
	}
	if err := o.behind(r.behind); err != nil {
		return o, err
	}
	if o.topology.IP, known = versions[r.ip]; !known {
		return o, fmt.Errorf("--ip %s: want one of %s", r.ip, strings.Join(slices.Sorted(maps.Keys(versions)), ", "))
	}
	o.topology.Sysctls = o.topology.Sysctls.
		On(lab.Client, append([]string{"net.ipv4.tcp_timestamps=" + r.clientTS}, r.onClient...)...).
		On(lab.Gateway, r.onGateway...).
		On(lab.Balancer, append([]string{"net.ipv4.tcp_timestamps=" + r.balancerTS}, r.onBalancer...)...)
	return o, o.topology.Validate()
}

// behind is what the flags say of the gateway.
type behind struct {
	clients       int
	profile       string
	ports, blocks int
	random        string
	timeout       int
}

// behind makes the topology of it.
func (o *options) behind(n behind) (err error) {
	o.topology = lab.Topology{Clients: n.clients, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}}
	var p nat.Profile
	if n.profile != "" {
		if p, err = nat.ProfileNamed(n.profile); err != nil {
			return err
		}
		if o.topology, err = p.Topology(n.clients); err != nil {
			return err
		}
	}
	// One that is Linux does as its kernel does.
	o.profile, o.keeps = p.Name, !p.Evicts && (p.Timeout > 0 || n.timeout > 0)
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
	if n.timeout < 0 {
		return fmt.Errorf("--conntrack-timeout %d: want seconds, or 0 for what the kernel or profile has", n.timeout)
	}
	if n.timeout > 0 {
		for _, after := range []string{"time_wait", "close"} { // FINs, and a RST
			o.topology.Sysctls = o.topology.Sysctls.On(lab.Gateway, fmt.Sprintf("net.netfilter.nf_conntrack_tcp_timeout_%s=%d", after, n.timeout))
		}
	}
	return nil
}

func (o options) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	l, err := lab.Build(ctx, o.topology)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	balancer := l.Nodes(lab.Balancer)[0]
	listener, err := balancer.Listen(ctx, tcp.ListenSpec{Ending: o.accepts})
	if err != nil {
		return err
	}
	o.plan.Clients, o.plan.Watched = l.Nodes(lab.Client), append(l.Nodes(lab.Gateway), balancer)
	o.plan.Attempt.To = listener.Addr
	givesUp, err := load.GivesUp(ctx, o.plan.Clients[0])
	if err != nil {
		return err
	}
	timeout := o.plan.Attempt.Budget
	if timeout == 0 {
		o.plan.Attempt.Budget = givesUp + givesUp/8 + time.Minute // timers are up to an eighth late
	}
	gateway, err := o.gateway(ctx, l)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, gateway)
	line := progressLine{to: stderr}
	if cli.IsTerminal(stderr) {
		o.plan.Progress = line.show
	}
	x, err := o.explain(ctx, l, stdout)
	if err != nil {
		return err
	}
	if o.plan.InFlight == 0 { // of the descriptors that are left
		if o.plan.InFlight, err = o.plan.MostInFlight(); err != nil {
			return err
		}
	}
	r, err := load.Run(ctx, o.plan)
	line.clear()
	if err != nil {
		return err
	}
	report(stdout, r, gateway, timeouts{givesUp: givesUp, own: timeout})
	if err := x.report(ctx, stdout); err != nil {
		return err
	}
	return o.writeSeries(r)
}

func (o options) writeSeries(r load.Result) (err error) {
	if o.series == "" {
		return nil
	}
	file, err := os.Create(o.series)
	if err != nil {
		return err
	}
	return errors.Join(load.WriteSeries(file, r.Series), file.Close())
}

// progressLine is one line of a terminal, written again and again.
type progressLine struct {
	to      io.Writer
	written bool
}

func (p *progressLine) show(r load.Row) {
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
