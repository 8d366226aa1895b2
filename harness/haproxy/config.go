//go:build linux

package haproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/template"
	"time"
)

// Mode says whether HAProxy handles connections or HTTP requests (configuration manual,
// "mode").
type Mode string

// The modes. The zero value is TCP.
const (
	TCP  Mode = "tcp"
	HTTP Mode = "http"
)

// Reuse says which requests may use a server connection that a request of another client
// has used before ("http-reuse"). The zero value is HAProxy's own default, safe.
type Reuse string

// The choices.
const (
	ReuseNever      Reuse = "never"
	ReuseSafe       Reuse = "safe"
	ReuseAggressive Reuse = "aggressive"
	ReuseAlways     Reuse = "always"
)

// Connections says what happens to the two connections after a response, in mode HTTP.
type Connections string

// The choices. The zero value is HAProxy's own default, keep-alive on both sides.
const (
	// KeepAlive keeps both open ("option http-keep-alive").
	KeepAlive Connections = "http-keep-alive"
	// ServerClose closes the server's connection and keeps the client's ("option
	// http-server-close").
	ServerClose Connections = "http-server-close"
	// CloseBoth closes both ("option httpclose"; since HAProxy 2.0 actively).
	CloseBoth Connections = "httpclose"
)

// Stack says whether a bind at :: takes IPv4 connections as well ("bind"). The zero value
// leaves it to net.ipv6.bindv6only.
type Stack string

// The choices.
const (
	DualStack Stack = "v4v6"
	IPv6Only  Stack = "v6only"
)

// Source is the source of connections towards servers ("source" of a server).
type Source struct {
	// Addr is the address, of the IP version of the servers; with the zero value the kernel
	// chooses it.
	Addr netip.Addr
	// First and Last are the range of ports. HAProxy then assigns the ports itself, in turn
	// and separately for each server; with 0 and 0 the kernel chooses the port. Ports need
	// an Addr: without one, or with 0.0.0.0 or ::, HAProxy ignores them.
	First, Last uint16
}

// Timeouts are HAProxy's own, in whole milliseconds. The comment of a field is the meaning
// of its zero value.
type Timeouts struct {
	Connect   time.Duration // 5 s
	Client    time.Duration // 1 min
	Server    time.Duration // 1 min
	KeepAlive time.Duration // "http-keep-alive": like Client
	// HardStop is how long a process that was told to stop serves its connections
	// ("hard-stop-after"): until they end
	HardStop time.Duration
}

// Takeover says how the new process gets the listening sockets when HAProxy reloads.
type Takeover string

// The ways.
const (
	// HandOver: a second process gets the sockets of the first one ("-x", "expose-fd
	// listeners") and tells it to finish ("-sf"). No connection is lost.
	HandOver Takeover = ""
	// Rebind: a second process opens sockets of its own on the same port (SO_REUSEPORT) and
	// tells the first one to finish ("-sf"). What is in the first one's accept queue is lost
	// with its socket, unless net.ipv4.tcp_migrate_req is 1 (inet_csk_listen_stop).
	Rebind Takeover = "rebind"
	// MasterWorker: a master ("-W") is told to reload (SIGUSR2) and starts a new worker,
	// which gets the sockets of the old one.
	MasterWorker Takeover = "master-worker"
)

// Config describes one frontend, and one backend with all the servers. With one server and
// otherwise zero, it is a balancer in mode TCP on port 80.
type Config struct {
	Mode Mode
	// Bind is the address that clients connect to. Without an address it is every IPv4
	// address of the namespace, with :: every IPv6 address; port 0 is 80. Stack is for ::
	// alone. Further addresses are lines of the frontend: "bind [fd00::1]:80".
	Bind  netip.AddrPort
	Stack Stack
	// Servers are called server0, server1, ...
	Servers []netip.AddrPort

	Connections Connections
	Reuse       Reuse
	// IdleCloseOnResponse lets an idle connection of a client live on after a soft stop, for
	// one more request, whose response announces the end ("option idle-close-on-response",
	// HAProxy 2.4). Without it HAProxy closes idle connections at once.
	IdleCloseOnResponse bool
	// NoLingerClients and NoLingerServers close the connections of that side by
	// RST ("option nolinger" of the frontend and of the backend).
	NoLingerClients, NoLingerServers bool
	Source                           Source
	Timeouts                         Timeouts
	// Takeover says how a reload works.
	Takeover Takeover

	// Retries is how often HAProxy repeats a failed connect to a server; 0 means HAProxy's
	// default, 3, and a negative number means never.
	Retries int

	// FrontendLines and BackendLines are added to their sections, for options without a
	// field here: "balance leastconn", "timeout client-fin 5s".
	FrontendLines, BackendLines []string
}

// defaultPort is the port when Bind has none.
const defaultPort = 80

// Frontend returns the address that clients connect to.
func (c Config) Frontend() netip.AddrPort {
	addr := c.Bind.Addr()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, cmp.Or(c.Bind.Port(), defaultPort))
}

// Validate returns what HAProxy would reject, or would understand differently. It reads
// only c.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, err error) {
		if wrong {
			errs = append(errs, err)
		}
	}
	mode := cmp.Or(c.Mode, TCP)
	bad(mode != TCP && mode != HTTP, fmt.Errorf("unknown mode %q: want %q or %q", c.Mode, TCP, HTTP))
	bad(len(c.Servers) == 0, errors.New("no servers to balance over"))
	bad(c.Connections != "" && mode != HTTP, fmt.Errorf("option %s needs mode %q", c.Connections, HTTP))
	bad(c.Reuse != "" && mode != HTTP, fmt.Errorf("http-reuse %s needs mode %q", c.Reuse, HTTP))
	bad(c.IdleCloseOnResponse && mode != HTTP, fmt.Errorf("option idle-close-on-response needs mode %q", HTTP))
	bad(c.Takeover != HandOver && c.Takeover != Rebind && c.Takeover != MasterWorker,
		fmt.Errorf("unknown takeover %q: want %q, %q or none", c.Takeover, Rebind, MasterWorker))
	s := c.Source
	bad(s.First > s.Last || s.First == 0 && s.Last != 0, fmt.Errorf("source ports %d-%d: want the smaller one first, and not 0", s.First, s.Last))
	bad(s.First != 0 && (!s.Addr.IsValid() || s.Addr.IsUnspecified()), fmt.Errorf("source ports %d-%d: HAProxy ignores them without an address", s.First, s.Last))
	errs = append(errs, c.addresses()...)
	t := c.Timeouts
	shortest := min(t.Connect, t.Client, t.Server, t.KeepAlive, t.HardStop)
	bad(shortest < 0, fmt.Errorf("a timeout of %v", shortest))
	if len(errs) > 0 {
		return fmt.Errorf("haproxy: %w", errors.Join(errs...))
	}
	return nil
}

// addresses returns what is wrong with the addresses and their IP versions.
func (c Config) addresses() (errs []error) {
	bind, source := c.Bind.Addr(), c.Source.Addr
	switch {
	case c.Stack == "":
	case c.Stack != DualStack && c.Stack != IPv6Only:
		errs = append(errs, fmt.Errorf("unknown stack %q: want %q, %q or none", c.Stack, DualStack, IPv6Only))
	case bind != netip.IPv6Unspecified():
		errs = append(errs, fmt.Errorf("stack %s needs Bind at [::], and it is at %v", c.Stack, c.Frontend()))
	}
	all := []netip.Addr{bind, source}
	for _, server := range c.Servers {
		all = append(all, server.Addr())
		if source.IsValid() && server.IsValid() && source.Is4() != server.Addr().Is4() {
			errs = append(errs, fmt.Errorf("source %v and server %v: want one IP version", source, server))
		}
	}
	for _, a := range all {
		if a.Zone() != "" || a.Is4In6() {
			errs = append(errs, fmt.Errorf("address %v: HAProxy reads addresses without a zone, and IPv4 as IPv4", a))
		}
	}
	return errs
}

// text returns the configuration as HAProxy reads it.
func (c Config) text() (string, error) {
	var text strings.Builder
	if err := configuration.Execute(&text, struct {
		Config
		Questions int
	}{c, questionsFD}); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return text.String(), nil
}

var configuration = template.Must(template.New("haproxy.cfg").Funcs(template.FuncMap{
	"ms": func(d time.Duration, otherwise string) string {
		if d == 0 {
			return otherwise
		}
		return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
	},
}).Parse(`global
	log stdout format raw local0
	stats socket sockpair@{{.Questions}} level admin{{if not .Takeover}} expose-fd listeners{{end}}
{{- with ms .Timeouts.HardStop ""}}
	hard-stop-after {{.}}{{end}}
	nbthread 1

defaults
	mode {{or .Mode "tcp"}}
	log global
	timeout connect {{ms .Timeouts.Connect "5s"}}
	timeout client {{ms .Timeouts.Client "1m"}}
	timeout server {{ms .Timeouts.Server "1m"}}
{{- with ms .Timeouts.KeepAlive ""}}
	timeout http-keep-alive {{.}}{{end}}
{{- if .Retries}}
	retries {{if gt .Retries 0}}{{.Retries}}{{else}}0{{end}}{{end}}
{{- with .Connections}}
	option {{.}}{{end}}

frontend clients
	bind {{.Frontend}}{{with .Stack}} {{.}}{{end}}
{{- if .NoLingerClients}}
	option nolinger{{end}}
{{- if .IdleCloseOnResponse}}
	option idle-close-on-response{{end}}
	log-format "{{.LogFormat}}"
{{- range .FrontendLines}}
	{{.}}{{end}}
	default_backend servers

backend servers
	balance roundrobin
{{- with .Reuse}}
	http-reuse {{.}}{{end}}
{{- if .NoLingerServers}}
	option nolinger{{end}}
{{- range .BackendLines}}
	{{.}}{{end}}
{{- range $i, $addr := .Servers}}
	server server{{$i}} {{$addr}}{{with $.SourceAddress}} source {{.}}{{end}}{{end}}
`))

// LogFormat returns the format of the line that HAProxy writes when a connection, or a
// request in mode HTTP, has ended. end= is its termination state: who ended it, and at what
// point (configuration manual, "Session state at disconnection"). The times are in
// milliseconds; -1 is a step that was not reached. HAProxy writes IPv6 addresses without
// brackets: the port is what follows the last colon.
func (c Config) LogFormat() string {
	if c.Mode == HTTP {
		return `client=%ci:%cp server=%s from=%bi:%bp to=%si:%sp request=%TR wait=%Tw connect=%Tc response=%Tr total=%Ta status=%ST bytes=%B end=%tsc retries=%rc %{+Q}r`
	}
	return `client=%ci:%cp server=%s from=%bi:%bp to=%si:%sp wait=%Tw connect=%Tc total=%Tt bytes=%B end=%ts retries=%rc`
}

// SourceAddress returns Source as HAProxy reads it, "" for none.
func (c Config) SourceAddress() string {
	if c.Source == (Source{}) {
		return ""
	}
	addr := c.Source.Addr
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	text := addr.String()
	if addr.Is6() {
		text = "[" + text + "]" // else HAProxy takes the last group for a port
	}
	if c.Source.First == 0 {
		return text
	}
	return fmt.Sprintf("%s:%d-%d", text, c.Source.First, c.Source.Last)
}
