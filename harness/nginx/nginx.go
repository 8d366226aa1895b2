//go:build linux

// Package nginx runs a real nginx inside a node, as a balancer of TCP connections.
//
// Like package haproxy, it runs the distribution's program, in the foreground, and leaves
// nothing behind.
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
	"slices"
	"strings"
	"text/template"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
	"twlab/harness/observe"
)

// ErrMissing means that nginx, or its stream module, is not installed.
var ErrMissing = errors.New("nginx with its stream module is not installed: install nginx-light and libnginx-mod-stream (Debian), nginx and nginx-mod-stream (Fedora)")

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

// Nginx is a running nginx. The caller of [Start] must Close it.
type Nginx struct {
	*program.Program
	configuration string
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
	var text strings.Builder
	if err := configuration.Execute(&text, view{c, module}); err != nil {
		return nil, fmt.Errorf("write configuration of nginx: %w", err)
	}
	file, err := program.InMemory("nginx.conf", func(w io.Writer) error {
		_, err := io.WriteString(w, text.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	p, err := program.Start(inside, program.Spec{
		Path: path, Args: []string{"-e", "stderr", "-c", program.FilePath(program.FirstFile)}, Files: []*os.File{file},
	})
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	err = observe.Await(ctx, "nginx to listen", func() (listens bool, err error) {
		err = inside(func() error {
			all, err := observe.ReadSockets()
			listens = slices.ContainsFunc(all.In(observe.Listen), func(s observe.Socket) bool { return s.Local == c.Bind })
			return err
		})
		return listens, errors.Join(err, p.Failure())
	})
	if err != nil {
		_ = p.Close() // it has ended or must end; err says why
		return nil, err
	}
	return &Nginx{Program: p, configuration: text.String()}, nil
}

// Configuration returns the configuration that nginx has read.
func (n *Nginx) Configuration() string { return n.configuration }

// Stats returns no counters, because nginx counts nothing for a stream.
func (n *Nginx) Stats(context.Context) (kernel.Counters, error) {
	return kernel.Counters{}, n.Failure()
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
master_process off;
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
