package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"twlab/harness/haproxy"
	"twlab/harness/kernel"
	"twlab/harness/nginx"
	"twlab/harness/ns"
)

// BalancerKind is what the balancer does with connections.
type BalancerKind string

// The kinds. The zero value is an end point: the balancer does nothing but what
// is asked of its node, such as listening.
const (
	Endpoint BalancerKind = ""
	// HAProxy is the program: two connections for each of the clients'.
	HAProxy BalancerKind = "haproxy"
	// Nginx is the program, with its stream module: two connections as well.
	Nginx BalancerKind = "nginx"
	// DNAT rewrites the address of the balancer to that of a server, and lets
	// the rest of the connection through (iptables DNAT under the statistic
	// match, as kube-proxy does). The balancer has no socket in it.
	DNAT BalancerKind = "dnat"
)

// StatisticMode is how DNAT chooses a server for a connection (xt_statistic).
type StatisticMode string

// The modes. The zero value is by chance, as kube-proxy does.
const (
	ByChance StatisticMode = ""
	InTurn   StatisticMode = "nth"
)

// BalancerSpec describes the balancer. Its zero value is an end point.
type BalancerSpec struct {
	Kind BalancerKind
	// Port is where clients connect to, and ServerPort where the servers listen;
	// 0 is 80. See [Lab.Door] and [Lab.Behind].
	Port, ServerPort uint16
	// HAProxy, for the kind HAProxy, is what that is told. Where it listens and
	// which servers it has is for the lab to say; ports of its Source that have no
	// address are of the balancer's own towards the servers.
	HAProxy haproxy.Config
	// NginxLines, for the kind Nginx, are nginx.Config.Lines.
	NginxLines []string
	// Statistic, for DNAT, is how a server is chosen.
	Statistic StatisticMode
}

// Program is a program that balances. To add one, see CONTRIBUTING.md.
type Program interface {
	// Configuration is what it was told, as it reads it.
	Configuration() string
	// Log is what it has said so far.
	Log() (string, error)
	// Stats is its own statistics; a program that keeps none has none.
	Stats(ctx context.Context) (kernel.Counters, error)
	// Failure is nil while it runs; afterwards it says how it ended, and wraps
	// program.ErrEnded.
	Failure() error
	// Close ends it. The error is that of Failure when it had ended before.
	Close() error
}

// runs tells whether the kind is a program.
func (k BalancerKind) runs() bool { return k == HAProxy || k == Nginx }

// start starts the program of the kind inside the balancer's namespace, and
// returns when it listens. A kind without a program has none.
func (s BalancerSpec) start(ctx context.Context, space *ns.Namespace, servers []netip.AddrPort) (Program, error) {
	door := netip.AddrPortFrom(balancerAddr, s.port())
	switch s.Kind {
	case HAProxy:
		c := s.haproxy(servers)
		c.Bind = door
		return started(haproxy.Start(ctx, space, c))
	case Nginx:
		return started(nginx.Start(ctx, space, nginx.Config{Bind: door, Servers: servers, Lines: s.NginxLines}))
	case Endpoint, DNAT:
	}
	return nil, nil //nolint:nilnil // no program, and nothing wrong with that
}

// started makes no program of a nil pointer.
func started[P Program](p P, err error) (Program, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

const usualPort = 80

func (s BalancerSpec) port() uint16 { return cmp.Or(s.Port, usualPort) }

// validate says what cannot be with that many servers.
func (s BalancerSpec) validate(servers []netip.AddrPort) (errs []error) {
	bad := func(err error) { errs = append(errs, fmt.Errorf("balancer: %w", err)) }
	switch s.Kind {
	case Endpoint:
	case HAProxy, Nginx, DNAT:
		if len(servers) == 0 {
			bad(fmt.Errorf("kind %q needs servers", s.Kind))
		}
	default:
		bad(fmt.Errorf("unknown kind %q: want %q, %q, %q or none", s.Kind, HAProxy, Nginx, DNAT))
	}
	switch s.Statistic {
	case ByChance, InTurn:
	default:
		bad(fmt.Errorf("unknown statistic mode %q: want %q or none", s.Statistic, InTurn))
	}
	if s.Statistic != ByChance && s.Kind != DNAT {
		bad(fmt.Errorf("statistic mode needs kind %q", DNAT))
	}
	if len(s.NginxLines) > 0 && s.Kind != Nginx {
		bad(fmt.Errorf("lines for nginx need kind %q", Nginx))
	}
	c := s.HAProxy
	if s.Kind != HAProxy && !reflect.ValueOf(c).IsZero() {
		bad(fmt.Errorf("a configuration of HAProxy needs kind %q", HAProxy))
	}
	if c.Bind.IsValid() || len(c.Servers) > 0 {
		bad(errors.New("HAProxy: where it listens and its servers are said by Port, ServerPort and the topology's Servers"))
	}
	if s.Kind == HAProxy && len(servers) > 0 {
		if err := s.haproxy(servers).Validate(); err != nil {
			bad(err)
		}
	}
	return errs
}

// haproxy is what HAProxy is told of its servers.
func (s BalancerSpec) haproxy(servers []netip.AddrPort) haproxy.Config {
	c := s.HAProxy
	c.Servers = servers
	if c.Source.First != 0 && !c.Source.Addr.IsValid() {
		c.Source.Addr = inner(serverNet)
	}
	return c
}

// behind is where the servers are to listen.
func (t Topology) behind() []netip.AddrPort {
	var all []netip.AddrPort
	for i := range min(t.Servers, capacity(serverNet)) {
		all = append(all, netip.AddrPortFrom(outer(serverNet, i), cmp.Or(t.Balancer.ServerPort, usualPort)))
	}
	return all
}

// dnat are the rules of the kind DNAT. The first of n servers gets one in n
// connections, the second one in n-1 of the rest, and so on: all get the same.
func (s BalancerSpec) dnat(servers []netip.AddrPort) []Rule {
	if s.Kind != DNAT {
		return nil
	}
	var rules []Rule
	for i, server := range servers {
		share := ""
		switch left := len(servers) - i; {
		case left == 1:
		case s.Statistic == InTurn:
			share = fmt.Sprintf("-m statistic --mode nth --every %d --packet 0 ", left)
		default:
			share = fmt.Sprintf("-m statistic --mode random --probability %.10f ", 1/float64(left))
		}
		rules = append(rules, Rule{
			Role: Balancer, Table: "nat", Chain: "PREROUTING",
			Spec: fmt.Sprintf("-d %v -p tcp --dport %d %s-j DNAT --to-destination %v", balancerAddr, s.port(), share, server),
		})
	}
	return rules
}

// Door is where clients connect to: the balancer's address, and its port.
func (l *Lab) Door() netip.AddrPort {
	return netip.AddrPortFrom(balancerAddr, l.topology.Balancer.port())
}

// Behind is where the servers are to listen, in the order of Nodes(Server), so
// that the balancer finds them.
func (l *Lab) Behind() []netip.AddrPort { return l.topology.behind() }

// Program is the program that balances. It is the lab's to close. The error says
// that the balancer is none.
func (l *Lab) Program() (Program, error) {
	if l.program == nil {
		return nil, fmt.Errorf("the balancer of this lab, kind %q, is no program", l.topology.Balancer.Kind)
	}
	return l.program, nil
}
