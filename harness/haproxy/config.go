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

// Mode is what HAProxy understands of the connections (configuration manual,
// "mode").
type Mode string

// The modes. The zero value is TCP.
const (
	TCP  Mode = "tcp"
	HTTP Mode = "http"
)

// Reuse is which requests may go to a server over a connection that another
// client's request has used before ("http-reuse"). The zero value is HAProxy's own
// default, safe.
type Reuse string

// The choices.
const (
	ReuseNever      Reuse = "never"
	ReuseSafe       Reuse = "safe"
	ReuseAggressive Reuse = "aggressive"
	ReuseAlways     Reuse = "always"
)

// Connections is what becomes of the two connections after a response, in mode
// HTTP.
type Connections string

// The choices. The zero value is HAProxy's own default, keep-alive on both sides.
const (
	// KeepAlive keeps both ("option http-keep-alive").
	KeepAlive Connections = "http-keep-alive"
	// ServerClose closes the server's and keeps the client's.
	ServerClose Connections = "http-server-close"
	// CloseBoth closes both ("option httpclose"; since HAProxy 2.0 actively).
	CloseBoth Connections = "httpclose"
)

// Source is where connections towards servers come from ("source" of a server).
type Source struct {
	// Addr is the address; the zero value leaves it to the kernel.
	Addr netip.Addr
	// First and Last are the ports, which HAProxy then gives out itself, in turn,
	// and for each server apart; 0 and 0 leave the port to the kernel. Ports need
	// an Addr: without one, and with 0.0.0.0, HAProxy overlooks them.
	First, Last uint16
}

// Timeouts are HAProxy's own, in whole milliseconds. A zero value is what the
// comment says.
type Timeouts struct {
	Connect   time.Duration // 5 s
	Client    time.Duration // 1 min
	Server    time.Duration // 1 min
	KeepAlive time.Duration // "http-keep-alive": like Client
}

// Config is one frontend, and one backend with all the servers. Its zero value
// with a server is a balancer in mode TCP on port 80.
type Config struct {
	Mode Mode
	// Bind is where clients connect to. Without an address it is every one of
	// the namespace; port 0 is 80.
	Bind netip.AddrPort
	// Servers are called server0, server1, ...
	Servers []netip.AddrPort

	Connections Connections
	Reuse       Reuse
	// NoLingerClients and NoLingerServers close the connections of that side by
	// RST ("option nolinger" of the frontend and of the backend).
	NoLingerClients, NoLingerServers bool
	Source                           Source
	Timeouts                         Timeouts

	// Retries is how often a failed connect to a server is tried again; 0 is
	// HAProxy's default, 3, and a negative number is never.
	Retries int

	// FrontendLines and BackendLines are added to their sections, for what has no field
	// here: "balance leastconn", "timeout client-fin 5s".
	FrontendLines, BackendLines []string
}

// defaultPort is the port when Bind has none.
const defaultPort = 80

// Frontend is where clients connect to.
func (c Config) Frontend() netip.AddrPort {
	addr := c.Bind.Addr()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, cmp.Or(c.Bind.Port(), defaultPort))
}

// Validate says what HAProxy would not understand, or would understand in another
// way than it is meant. It looks at nothing but c.
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
	s := c.Source
	bad(s.First > s.Last || s.First == 0 && s.Last != 0, fmt.Errorf("source ports %d-%d: want the smaller one first, and not 0", s.First, s.Last))
	bad(s.First != 0 && (!s.Addr.IsValid() || s.Addr.IsUnspecified()), fmt.Errorf("source ports %d-%d: HAProxy overlooks them without an address", s.First, s.Last))
	t := c.Timeouts
	shortest := min(t.Connect, t.Client, t.Server, t.KeepAlive)
	bad(shortest < 0, fmt.Errorf("a timeout of %v", shortest))
	if len(errs) > 0 {
		return fmt.Errorf("haproxy: %w", errors.Join(errs...))
	}
	return nil
}

// text is the configuration as HAProxy reads it. Its statistics are to be asked at
// the socket that it has as the descriptor of that number.
func (c Config) text(statistics int) (string, error) {
	var text strings.Builder
	if err := configuration.Execute(&text, struct {
		Config
		Statistics int
	}{c, statistics}); err != nil {
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
	stats socket fd@{{.Statistics}} level operator
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
	bind {{.Frontend}}
{{- if .NoLingerClients}}
	option nolinger{{end}}
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

// LogFormat is what HAProxy writes when a connection, or a request in mode HTTP,
// is over. end= is its termination state: who ended it, and at what point
// (configuration manual, "Session state at disconnection"). The times are
// milliseconds; -1 is a step that was not reached.
func (c Config) LogFormat() string {
	if c.Mode == HTTP {
		return `client=%ci:%cp server=%s from=%bi:%bp to=%si:%sp request=%TR wait=%Tw connect=%Tc response=%Tr total=%Ta status=%ST bytes=%B end=%tsc retries=%rc %{+Q}r`
	}
	return `client=%ci:%cp server=%s from=%bi:%bp to=%si:%sp wait=%Tw connect=%Tc total=%Tt bytes=%B end=%ts retries=%rc`
}

// SourceAddress is Source as HAProxy reads it, "" for none.
func (c Config) SourceAddress() string {
	if c.Source == (Source{}) {
		return ""
	}
	addr := c.Source.Addr
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	if c.Source.First == 0 {
		return addr.String()
	}
	return fmt.Sprintf("%v:%d-%d", addr, c.Source.First, c.Source.Last)
}
