//go:build linux

// Package nginx runs a real nginx inside a node, as a balancer of TCP connections.
//
// Like package haproxy, it runs the distribution's program, in the foreground, through its
// whole life, and leaves nothing behind.
package nginx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"text/template"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
)

var (
	// ErrMissing means that nginx, or its stream module, is not installed.
	ErrMissing = errors.New("nginx with its stream module is not installed: install nginx-light and libnginx-mod-stream (Debian), nginx and nginx-mod-stream (Fedora)")
	// ErrRejected means that nginx does not accept the configuration.
	ErrRejected = errors.New("nginx rejects the configuration")
	// ErrStopped means that nginx was stopped, and cannot be reloaded or stopped again
	// before it is started again.
	ErrStopped = errors.New("nginx was stopped: start it again first")
)

// Config describes a balancer of TCP connections on one port.
type Config struct {
	// Bind is the address that clients connect to, of either IP version. At [::] it takes
	// IPv6 connections alone (nginx's own default, ipv6only=on).
	Bind    netip.AddrPort
	Servers []netip.AddrPort
	// Lines are added to the server section, for options without a field here ("proxy_bind
	// 10.30.0.1;"), or for a further address ("listen 10.20.0.2:80;"). In nginx's log an IPv6
	// address of a client has no brackets: the port is what follows the last colon.
	Lines []string
}

// Nginx is a running nginx: a master with its workers, and those before it that have not
// ended. Its methods may be called from any goroutine. The caller of [Start] must Close it.
type Nginx struct {
	path, module string
	inside       func(func() error) error
	log          *program.Log
	file         *os.File // the configuration, which the master reads again

	changing sync.Mutex // of one Stop, Start or Reload at a time

	mu            sync.Mutex // for what follows
	config        Config
	configuration string
	master        *program.Program // the last one
	stopped       bool             // whether master was told to stop
	all           []*program.Program
	closed        bool
}

// Start starts nginx through inside, such as ns.Namespace.Do, and returns when it listens.
// The error is [ErrMissing], or contains nginx's own message.
func Start(ctx context.Context, inside func(func() error) error, c Config) (*Nginx, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	module, err := streamModule(ctx, path)
	if err != nil {
		return nil, err
	}
	text, err := c.text(module)
	if err != nil {
		return nil, err
	}
	file, err := inMemory(text)
	if err != nil {
		return nil, err
	}
	log, err := program.NewLog("nginx")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	n := &Nginx{path: path, module: module, inside: inside, log: log, file: file, config: c, configuration: text}
	if err := n.Start(ctx); err != nil {
		_ = n.Close() // it never ran; err says why
		return nil, err
	}
	return n, nil
}

func inMemory(text string) (*os.File, error) {
	return program.InMemory("nginx.conf", func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// text returns the configuration as nginx reads it.
func (c Config) text(module string) (string, error) {
	var text strings.Builder
	if err := configuration.Execute(&text, view{c, module}); err != nil {
		return "", fmt.Errorf("write configuration of nginx: %w", err)
	}
	return text.String(), nil
}

// Configuration returns the configuration that nginx has read last.
func (n *Nginx) Configuration() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.configuration
}

// Log returns what all processes have written so far.
func (n *Nginx) Log() (string, error) { return n.log.Text() }

// Stats returns no counters, because nginx counts nothing for a stream.
func (n *Nginx) Stats(context.Context) (kernel.Counters, error) {
	return kernel.Counters{}, n.Failure()
}

// Failure returns nil as long as no master has ended that was not told to, and none has
// crashed. Otherwise it wraps topo.ErrEnded and contains the last messages.
func (n *Nginx) Failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, p := range n.all {
		errs = append(errs, p.Failure())
	}
	return errors.Join(errs...)
}

// Close kills all processes and waits until they have ended. The error is that of Failure
// when one had ended before. A second Close does nothing.
func (n *Nginx) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	all := n.all
	n.mu.Unlock()
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, n.log.Close(), n.file.Close())...)
}

// streamModule returns the path of nginx's stream module, "" when it is built in. The build
// options of the distribution (nginx -V) say where modules are.
func streamModule(ctx context.Context, path string) (string, error) {
	said, err := exec.CommandContext(ctx, path, "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nginx -V: %w: %s", err, said)
	}
	how := regexp.MustCompile(` --with-stream(=dynamic)?(?: |\n)`).FindSubmatch(said)
	if how == nil {
		return "", ErrMissing
	}
	if len(how[1]) == 0 {
		return "", nil
	}
	dir := regexp.MustCompile(` --modules-path=(\S+)`).FindSubmatch(said)
	if dir == nil {
		return "", ErrMissing
	}
	module := filepath.Join(string(dir[1]), "ngx_stream_module.so")
	if _, err := os.Stat(module); err != nil {
		return "", fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	return module, nil
}

type view struct {
	Config
	Module string
}

var configuration = template.Must(template.New("nginx.conf").Parse(`{{with .Module}}load_module {{.}};
{{end -}}
daemon off;
user root;
worker_processes 1;
pid /proc/self/fd/3; # over this text, which has been read by then
error_log stderr;
events {}
stream {
	log_format ended 'client=$remote_addr:$remote_port to=$upstream_addr connect=$upstream_connect_time total=$session_time bytes=$bytes_sent end=$status';
	access_log /proc/self/fd/1 ended;
	upstream servers {
{{- range .Servers}}
		server {{.}};{{end}}
	}
	server {
		listen {{.Bind}};
		proxy_pass servers;
{{- range .Lines}}
		{{.}}{{end}}
	}
}
`))
