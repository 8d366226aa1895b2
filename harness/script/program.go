package script

import (
	"time"

	"twlab/harness/topo"
)

// Program is a program that balances at a node.
type Program struct {
	Kind ProgramKind
	// Port is where clients connect; 0 is 80. Servers are where it sends them.
	Port    uint16
	Servers []Endpoint
	// HTTP handles requests instead of connections.
	HTTP bool
	// IdleCloseOnResponse is HAProxy's option idle-close-on-response, ServerClose its option
	// http-server-close, CloseBoth its option httpclose, NoLinger and NoLingerServers its option
	// nolinger towards clients and towards servers.
	IdleCloseOnResponse, ServerClose, CloseBoth, NoLinger, NoLingerServers bool
	// Reuse is HAProxy's http-reuse (haproxy.Reuse), PurgeDelay its pool-purge-delay.
	Reuse      string
	PurgeDelay time.Duration
	// Retries is how often HAProxy repeats a failed connect to a server; nil is its own default.
	Retries *int
	// Source are the ports that HAProxy itself gives to connections to servers.
	Source topo.PortRange
	// Scheduler is how IPVS chooses a server (topo.VirtualService).
	Scheduler string
	// Takeover is how a reload passes the listening sockets on (haproxy.Takeover).
	Takeover string
	// The timeouts; 0 leaves the program's own.
	ConnectTimeout, ClientTimeout, ServerTimeout, KeepAliveTimeout time.Duration
}

// ProgramKind is which program balances.
type ProgramKind string

// The programs.
const (
	HAProxy ProgramKind = "haproxy"
	Nginx   ProgramKind = "nginx"
	// IPVS is no process, but the node's kernel.
	IPVS ProgramKind = "ipvs"
)

// check checks the programs.
func (c *checker) programs() {
	for node, p := range sorted(c.scenario.Programs) {
		c.below("topology.nodes."+node+"."+string(p.Kind), func() {
			c.node("", node)
			if len(p.Servers) == 0 {
				c.wrong("servers", "to which servers? Give them as NODE:PORT")
			}
			for _, s := range p.Servers {
				c.endpoint("servers", s, false)
				if s.Port == 0 {
					c.wrong("servers", "which port of %s? Say %s:80", s.Name, s.Name)
				}
			}
			if p.Takeover != "" && p.Takeover != "rebind" && p.Takeover != "master-worker" {
				c.wrong("takeover", "%q: want rebind or master-worker, or leave it out", p.Takeover)
			}
			if p.Kind != HAProxy && p.ofHAProxy() {
				c.wrong("", "only haproxy has idle-close-on-response, server-close, no-linger, takeover and what is like them")
			}
			if p.ServerClose && p.CloseBoth {
				c.wrong("close", "either \"close\" or \"server-close\"")
			}
			c.ports(p.Source)
			if p.Retries != nil {
				c.counts("retries", *p.Retries, 0, 100)
			}
			for key, d := range map[string]time.Duration{
				"connect-timeout": p.ConnectTimeout, "client-timeout": p.ClientTimeout, "server-timeout": p.ServerTimeout,
				"keep-alive-timeout": p.KeepAliveTimeout, "pool-purge-delay": p.PurgeDelay,
			} {
				c.lasts(key, d, false)
			}
		})
	}
}

// ofHAProxy reports whether the program has an option that only HAProxy has.
func (p Program) ofHAProxy() bool {
	return p.IdleCloseOnResponse || p.ServerClose || p.CloseBoth || p.NoLinger || p.NoLingerServers || p.Takeover != "" ||
		p.Reuse != "" || p.PurgeDelay != 0 || p.Retries != nil || p.Source != topo.PortRange{}
}
