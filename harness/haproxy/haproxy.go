//go:build linux

// Package haproxy runs a real HAProxy inside a node and reads its statistics
// socket.
//
// It is the distribution's program, in the foreground, and leaves nothing: its
// configuration and its log are files in memory, its statistics socket has a name
// in the node's namespace only, and it ends with this process.
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
	// ErrMissing says that HAProxy is not installed.
	ErrMissing = errors.New("haproxy is not installed: run hack/bootstrap, or install the package haproxy")
	// ErrTooOld says that the HAProxy that is installed cannot do what is asked for.
	ErrTooOld = errors.New("haproxy is too old")
	// ErrRejected says that HAProxy does not accept the configuration.
	ErrRejected = errors.New("haproxy rejects the configuration")
)

// HAProxy is a HAProxy that runs. Its methods may be called from any goroutine.
// The caller of [Start] must Close it.
type HAProxy struct {
	*program.Program
	inside        func(func() error) error
	statistics    net.Addr
	configuration string
}

// The descriptors that HAProxy is handed.
const (
	configurationFD = program.FirstFile + iota
	statisticsFD
)

// Start starts HAProxy where inside runs it, such as ns.Namespace.Do, and returns when it answers, which it
// does when it listens. The error is [ErrMissing], [ErrTooOld] or [ErrRejected], or
// shows what HAProxy said, that a port is in use for example.
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
	// HAProxy has its own; while ours were open, nobody would notice its end.
	if closed := in.close(); err != nil || closed != nil {
		if p != nil {
			closed = errors.Join(closed, p.Close())
		}
		return nil, errors.Join(err, closed)
	}
	h := &HAProxy{Program: p, inside: inside, statistics: statistics, configuration: text}
	if err := h.ready(ctx); err != nil {
		_ = p.Close() // it ended, or is to end, and the error says why
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

// ready waits for the answer to a question that is asked before HAProxy runs. An
// answer comes when it has opened everything.
func (h *HAProxy) ready(ctx context.Context) error {
	if _, err := h.Stats(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("await HAProxy's first answer: %w", ctx.Err())
		}
		// What it was asked it did not answer because it ended.
		select {
		case <-h.Ended():
			return h.Failure()
		case <-time.After(lastWords):
			return err
		}
	}
	return nil
}

// lastWords is how long a HAProxy that hangs up is given to end.
const lastWords = 5 * time.Second

// Configuration is what HAProxy has read.
func (h *HAProxy) Configuration() string { return h.configuration }

// Stats is HAProxy's own statistics, by its own names: "frontend.stot",
// "backend.wredis", "server0.econ" (the columns of "show stat") and
// "process.CumConns" (the lines of "show info"). What is no number, and what
// HAProxy does not count there, is absent. Among the columns are
//
//	stot, conn_tot    sessions, connections (of a frontend: accepted)
//	connect, reuse    connects to servers, requests that did without (mode HTTP)
//	req_tot, hrsp_2xx requests, responses with a status of 2xx (mode HTTP)
//	econ, eresp, ereq connects that failed, responses and requests that did
//	wretr, wredis     connects tried again, and at another server
//	cli_abrt, srv_abrt transfers that the client, the server broke off
//
// (management guide, "CSV format"). The error of a HAProxy that has ended wraps
// topo.ErrEnded and shows its last words.
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
	// A deadline in the past ends what waits.
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

// Check asks HAProxy what it thinks of a configuration (haproxy -c). The error is
// [ErrMissing], [ErrTooOld], or [ErrRejected] with its words.
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

// alerts are HAProxy's complaints, without what it says every time.
func alerts(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "[NOTICE]") {
			lines = append(lines, "\t"+strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// input is what HAProxy is handed.
type input struct {
	configuration *os.File
	statistics    *net.UnixListener
	socket        *os.File // of statistics
}

// openInput makes the configuration, and the statistics socket: under a name that
// the kernel chooses (unix(7), autobind) and that only the calling thread's network
// namespace knows.
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

// files are HAProxy's descriptors, in their order.
func (in input) files() []*os.File { return []*os.File{in.configuration, in.socket} }

func (in input) close() error {
	return errors.Join(in.configuration.Close(), in.socket.Close(), in.statistics.Close())
}
