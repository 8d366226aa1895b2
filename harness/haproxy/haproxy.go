//go:build linux

// Package haproxy runs a real HAProxy inside a node and reads its statistics socket.
//
// It runs the distribution's program, in the foreground, and leaves nothing behind:
// configuration and log are files in memory, the name of the statistics socket exists only
// in the node's namespace, and HAProxy ends with this process.
package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
)

const programName = "haproxy"

var (
	// ErrMissing means that HAProxy is not installed.
	ErrMissing = errors.New("haproxy is not installed: run hack/bootstrap, or install the package haproxy")
	// ErrTooOld means that the installed HAProxy is too old for this package.
	ErrTooOld = errors.New("haproxy is too old")
	// ErrRejected means that HAProxy does not accept the configuration.
	ErrRejected = errors.New("haproxy rejects the configuration")
)

// HAProxy is a running HAProxy. Its methods may be called from any goroutine. The caller of
// [Start] must Close it.
type HAProxy struct {
	*program.Program
	inside        func(func() error) error
	statistics    net.Addr
	configuration string
}

// The descriptors that HAProxy inherits.
const (
	configurationFD = program.FirstFile + iota
	statisticsFD
)

// Start starts HAProxy through inside, such as ns.Namespace.Do, and returns when HAProxy
// answers on its statistics socket, which it does once it listens. The error is
// [ErrMissing], [ErrTooOld] or [ErrRejected], or contains HAProxy's own message, for
// example that a port is in use.
func Start(ctx context.Context, inside func(func() error) error, c Config) (*HAProxy, error) {
	path, err := installed()
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	text, err := c.text(statisticsFD)
	if err != nil {
		return nil, err
	}
	var in input
	err = inside(func() (err error) {
		in, err = openInput(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	p, err := program.Start(inside, program.Spec{
		Path: path, Args: []string{"-db", "-f", program.FilePath(configurationFD)}, Files: in.files(),
	})
	statistics := in.statistics.Addr()
	// HAProxy has its own copies; while ours are open, the end of HAProxy would not be
	// noticed.
	if closed := in.close(); err != nil || closed != nil {
		if p != nil {
			closed = errors.Join(closed, p.Close())
		}
		return nil, errors.Join(err, closed)
	}
	h := &HAProxy{Program: p, inside: inside, statistics: statistics, configuration: text}
	if err := h.ready(ctx); err != nil {
		_ = p.Close() // it has ended or must end; err says why
		if rejected := c.check(ctx, path, text); rejected != nil && ctx.Err() == nil {
			err = rejected
		}
		return nil, err
	}
	return h, nil
}

func installed() (path string, err error) {
	path, err = exec.LookPath(programName)
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	return path, nil
}

// ready sends a command and waits for the answer. The socket exists before HAProxy runs;
// HAProxy answers when it has opened everything.
func (h *HAProxy) ready(ctx context.Context) error {
	if _, err := h.Stats(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("await HAProxy's first answer: %w", ctx.Err())
		}
		// There was no answer because HAProxy ended.
		select {
		case <-h.Ended():
			return h.Failure()
		case <-time.After(lastWords):
			return err
		}
	}
	return nil
}

// lastWords is how long a HAProxy that closes the socket may take to end.
const lastWords = 5 * time.Second

// Configuration returns the configuration that HAProxy has read.
func (h *HAProxy) Configuration() string { return h.configuration }

// Stats returns HAProxy's own statistics, under its own names: "frontend.stot",
// "backend.wredis", "server0.econ" (the columns of "show stat") and "process.CumConns" (the
// lines of "show info"). Values that are not numbers, and those that HAProxy does not count
// there, are absent. Among the columns are
//
//	stot, conn_tot    sessions, connections (of a frontend: accepted)
//	connect, reuse    connects to servers, requests without a connect (mode HTTP)
//	req_tot, hrsp_2xx requests, responses with a status of 2xx (mode HTTP)
//	econ, eresp, ereq failed connects, failed responses, failed requests
//	wretr, wredis     connects retried, and retried at another server
//	cli_abrt, srv_abrt transfers aborted by the client, and by the server
//
// (management guide, "CSV format"). When HAProxy has ended, the error wraps topo.ErrEnded
// and contains its last messages.
func (h *HAProxy) Stats(ctx context.Context) (kernel.Counters, error) {
	answer, err := h.ask(ctx, "show info;show stat")
	if err != nil {
		if failure := h.Failure(); failure != nil {
			return nil, failure
		}
		return nil, fmt.Errorf("statistics of HAProxy: %w", err)
	}
	all, err := parseStatistics(answer)
	if err != nil {
		return nil, fmt.Errorf("statistics of HAProxy: %w", err)
	}
	return all, nil
}

// ask sends a command to the statistics socket and returns the answer.
func (h *HAProxy) ask(ctx context.Context, command string) (answer string, err error) {
	var conn *net.UnixConn
	err = h.inside(func() (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: h.statistics.String()})
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// A deadline in the past makes a waiting call fail.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	if err == nil && len(text) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(text), errors.Join(err, ctx.Err())
}

// Check lets HAProxy check a configuration (haproxy -c). The error is [ErrMissing],
// [ErrTooOld], or [ErrRejected] with HAProxy's messages.
func Check(ctx context.Context, c Config) error {
	path, err := installed()
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	text, err := c.text(statisticsFD)
	if err != nil {
		return err
	}
	return c.check(ctx, path, text)
}

func (c Config) check(ctx context.Context, path, text string) (err error) {
	in, err := openInput(text)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	command := exec.CommandContext(ctx, path, "-c", "-f", program.FilePath(configurationFD))
	command.ExtraFiles = in.files()
	said, err := command.CombinedOutput()
	if err == nil {
		return nil
	}
	if old := tooOld(ctx, path); old != nil {
		return old
	}
	return fmt.Errorf("%w: %w:\n%s", ErrRejected, err, alerts(string(said)))
}

// alerts returns HAProxy's complaints, without the messages that it always prints.
func alerts(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "[NOTICE]") {
			lines = append(lines, "\t"+strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// input is what HAProxy inherits.
type input struct {
	configuration *os.File
	statistics    *net.UnixListener
	socket        *os.File // of statistics
}

// openInput makes the configuration file and the statistics socket. The kernel chooses the
// name of the socket (unix(7), autobind), which exists only in the calling thread's network
// namespace.
func openInput(configuration string) (in input, err error) {
	in.configuration, err = program.InMemory("haproxy.cfg", func(w io.Writer) error {
		_, err := io.WriteString(w, configuration)
		return err
	})
	if err != nil {
		return in, err
	}
	if in.statistics, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix"}); err != nil {
		return in, errors.Join(fmt.Errorf("statistics socket: %w", err), in.configuration.Close())
	}
	if in.socket, err = in.statistics.File(); err != nil {
		return in, errors.Join(fmt.Errorf("statistics socket: %w", err), in.configuration.Close(), in.statistics.Close())
	}
	return in, nil
}

// files returns HAProxy's descriptors, in their order.
func (in input) files() []*os.File { return []*os.File{in.configuration, in.socket} }

func (in input) close() error {
	return errors.Join(in.configuration.Close(), in.socket.Close(), in.statistics.Close())
}
