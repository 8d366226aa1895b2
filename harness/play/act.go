//go:build linux

package play

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// act does what a step does.
func (p *player) act(ctx context.Context, id string, do script.Action) (Result, error) {
	switch a := do.(type) {
	case script.Listen:
		return p.listen(ctx, id, a)
	case script.Connect:
		return p.connect(ctx, id, a)
	case script.Load:
		return p.load(ctx, a)
	case script.Exchange:
		return p.exchange(ctx, id, a)
	case script.Send:
		return p.send(ctx, a)
	case script.Receive:
		return p.receive(ctx, a)
	case script.Close:
		if l, found := p.listener(a.Conn); found {
			return Result{}, l.node.End(ctx, l.handle, tcp.CloseNow)
		}
		return p.endConn(ctx, a.Conn, tcp.CloseNow)
	case script.Reset:
		return p.endConn(ctx, a.Conn, tcp.Abort)
	case script.Vanish:
		return p.endConn(ctx, a.Conn, tcp.Vanish)
	case script.HalfClose:
		return p.halfClose(ctx, a)
	case script.Clock:
		return p.clock(ctx, a)
	case script.AddRule:
		return Result{}, p.addRule(id, topo.Rule{Node: a.Node, Table: a.Table, Chain: a.Chain, Spec: a.Spec, IP: a.IP})
	case script.RemoveRule:
		return p.removeRule(ctx, a.Step)
	case script.Drop:
		return Result{}, p.drop(id, a)
	case script.SetLink:
		return Result{}, p.setLink(ctx, a)
	case script.Impair:
		return Result{}, p.impair(ctx, a)
	case script.ForgetFlows:
		return p.forget(ctx, a)
	case script.Set:
		return Result{}, p.set(ctx, a)
	case script.Await:
		return p.await(ctx, a.Step)
	case script.Sleep:
		return Result{}, observe.Pass(ctx, a.For, "the end of the pause")
	default:
		return Result{}, p.program(ctx, do)
	}
}

// addr resolves an endpoint.
func (p *player) addr(e script.Endpoint) netip.AddrPort {
	return netip.AddrPortFrom(p.scenario.Addr(p.plan, e), e.Port)
}

// name returns what the scenario calls an address: the node that is reached by its own name
// there, or the entry of its addresses. The short form of a topology has the entry "vip" for
// the balancer, which a file need not know.
func (p *player) name(a netip.Addr) string {
	if a.IsLoopback() {
		return script.Loopback
	}
	for _, n := range p.plan.Nodes {
		if n.Addr == a || n.Addr6 == a {
			return n.Name
		}
	}
	for _, all := range []map[string]netip.Addr{p.scenario.Addresses, p.scenario.Addresses6} {
		for name, addr := range all {
			if addr == a {
				return name
			}
		}
	}
	if owner := p.owner(a); owner != "" {
		return owner
	}
	return a.String()
}

// owner returns the node that has an address; empty when no node has it.
func (p *player) owner(a netip.Addr) string {
	for _, n := range p.plan.Nodes {
		if n.Addr == a || n.Addr6 == a {
			return n.Name
		}
		for _, own := range n.Loopback {
			if own == a {
				return n.Name
			}
		}
		for _, e := range n.Ends {
			if e.Addr == a || e.Addr6 == a {
				return n.Name
			}
		}
	}
	return ""
}

// is reports whether an address and a port are those that an endpoint asks for: any address
// of its node, any port if it has none, and anything if it asks for nothing.
func (p *player) is(e script.Endpoint, a netip.AddrPort) bool {
	named := e.Name == "" || p.scenario.Addresses[e.Name] == a.Addr() || p.scenario.Addresses6[e.Name] == a.Addr() ||
		p.owner(a.Addr()) == e.Name || p.scenario.Addr(p.plan, script.Endpoint{Name: e.Name, Six: a.Addr().Is6()}) == a.Addr()
	return named && (!e.Six || a.Addr().Is6()) && (e.Port == 0 || e.Port == a.Port())
}

// named writes an address and a port with the scenario's name.
func (p *player) named(a netip.AddrPort) string {
	six := p.scenario.Network.IP == topo.DualStack && a.Addr().Is6()
	return script.Endpoint{Name: p.name(a.Addr()), Port: a.Port(), Six: six}.String()
}

// What describes an action in a few words.
func What(do script.Action) string {
	var words []string
	add := func(format, value string) {
		if value != "" {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	switch a := do.(type) {
	case script.Listen:
		add("%s", script.Endpoint{Name: a.Node, Port: a.Port}.String())
	case script.Connect:
		add("%s", a.From.String()+" > "+a.To.String())
	case script.Load:
		add("%s", a.From.String()+" > "+a.To.String())
	case script.Exchange:
		if add("with %s", a.Conn); a.Conn == "" {
			add("%s", a.From.String()+" > "+a.To.String())
		}
	case script.Send:
		add("%s", fmt.Sprintf("%d bytes to %v", a.Bytes, a.Conn))
	case script.Receive:
		add("%s", a.Conn.String())
	case script.Close:
		add("%s", a.Conn.String())
	case script.HalfClose:
		add("%s", a.Conn.String())
	case script.Reset:
		add("%s", a.Conn.String())
	case script.Vanish:
		add("%s", a.Conn.String())
	case script.Clock:
		if a.Back != 0 {
			add("%s", fmt.Sprintf("of %v back by %v", a.Conn, a.Back))
			break
		}
		add("%s", fmt.Sprintf("of %v by %v", a.Conn, a.Advance))
		add("beyond %s", a.Beyond)
		add("behind %s", a.Behind)
	case script.AddRule:
		add("%s", a.Node+": "+a.Table+" "+a.Chain+" "+a.Spec)
	case script.RemoveRule:
		add("%s", a.Step)
	case script.Drop:
		add("at %s", a.Node)
		add("from %s", a.In)
		add("to %s", a.Out)
		add("%s", a.Flags)
	case script.SetLink:
		state := "down"
		if a.Up {
			state = "up"
		}
		add("%s", a.A+" -- "+a.B+" "+state)
	case script.Impair:
		add("%s", impairment(a))
	case script.ForgetFlows:
		add("at %s", a.Node)
	case script.Set:
		for _, s := range a.Sysctls {
			add("%s", a.Node+": "+s.Name+"="+s.Value)
		}
	case script.Stop:
		add("%s", a.Node)
	case script.Start:
		add("%s", a.Node)
	case script.Reload:
		add("%s", a.Node)
	case script.Await:
		add("%s", a.Step)
	case script.Sleep:
		add("%s", a.For.String())
	}
	return strings.Join(append([]string{do.Verb()}, words...), " ")
}
