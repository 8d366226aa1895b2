//go:build linux

package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/program"
	"twlab/harness/kernel"
	"twlab/harness/observe"
)

// process is one process of HAProxy, or a master with its workers.
type process struct {
	*program.Program
	// questions is our end of the pair of sockets over which HAProxy gets the connections
	// of its statistics socket (configuration manual, "sockpair@"), and over which it hands
	// over what it listens on. A socket in the abstract namespace would crash HAProxy 2.6
	// when a process that replaces it fails: the second SIGTTOU finds it closed
	// (pause_listener).
	questions *os.File
	// configuration is what a master reads again; nil for others.
	configuration *os.File
}

// The descriptors that HAProxy inherits.
const (
	configurationFD = program.FirstFile + iota
	questionsFD
	takeOverFD // the other end of the questionsFD of the process before
)

// launch starts a process. When before is not nil, the new process tells it to finish, as
// soon as it listens itself. The caller must Close the new process.
func (h *HAProxy) launch(c Config, text string, before *process) (*process, error) {
	in, err := openInput(text)
	if err != nil {
		return nil, err
	}
	args, files := []string{"-db", "-f", program.FilePath(configurationFD)}, in.files()
	if c.Takeover == MasterWorker {
		args = append(args, "-W")
	}
	if before != nil {
		if c.Takeover == HandOver {
			files = append(files, before.questions)
			args = append(args, "-x", "sockpair@"+strconv.Itoa(takeOverFD))
		}
		args = append(args, "-sf", strconv.Itoa(before.PID())) // last: it takes all numbers
	}
	p, err := program.Start(h.inside, program.Spec{
		Path: h.path, Args: args, Files: files, Log: h.log, Family: c.Takeover == MasterWorker,
	})
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	one := &process{Program: p, questions: in.ours}
	in.ours = nil
	if c.Takeover == MasterWorker {
		one.configuration, in.configuration = in.configuration, nil
	}
	// HAProxy has its own copies; while ours are open, the end of HAProxy would not be
	// noticed.
	if err := in.close(); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

// Close kills the process and waits until it has ended.
func (p *process) Close() error {
	errs := []error{p.Program.Close()}
	for _, file := range []*os.File{p.configuration, p.questions} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// ready asks for statistics and waits for the answer. The question waits in the
// pair of sockets; HAProxy answers when it has opened everything.
func (p *process) ready(ctx context.Context) error {
	if _, err := p.stats(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("await HAProxy's first answer: %w", ctx.Err())
		}
		// There was no answer because HAProxy ended.
		select {
		case <-p.Ended():
			return p.Failure()
		case <-time.After(lastWords):
			return err
		}
	}
	if p.configuration == nil {
		return nil
	}
	// A master executes itself again when it has started a worker, and forgets signals that
	// came before (mworker_loop registers its handlers).
	return observe.Await(ctx, "the master to take signals", func() (bool, error) {
		takes, err := p.Catches(unix.SIGUSR2)
		return takes, errors.Join(err, p.Failure())
	})
}

// lastWords is how long a HAProxy that closes the socket may take to end.
const lastWords = 5 * time.Second

// stats reads the statistics of the process that serves. During the reload of a master, the
// old worker may be the one that answers: it says that it is stopping.
func (p *process) stats(ctx context.Context) (all kernel.Counters, err error) {
	err = observe.Await(ctx, "statistics", func() (bool, error) {
		answer, err := p.ask(ctx, "show info;show stat")
		if err == nil {
			all, err = parseStatistics(answer)
		}
		return all["process.Stopping"] == 0, err
	})
	return all, err
}

// ask sends a command to the statistics socket and returns the answer.
func (p *process) ask(ctx context.Context, command string) (answer string, err error) {
	conn, err := p.connect()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// A deadline in the past makes a waiting call fail.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", errors.Join(err, ctx.Err())
	}
	text, err := io.ReadAll(conn)
	if err == nil && len(text) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(text), errors.Join(err, ctx.Err())
}

// connect makes a pair of sockets and passes HAProxy one of them.
func (p *process) connect() (net.Conn, error) {
	theirs, ours, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	defer ours.Close()
	raw, err := p.questions.SyscallConn()
	if err != nil {
		return nil, err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.Sendmsg(int(fd), []byte{0}, unix.UnixRights(int(theirs.Fd())), nil, unix.MSG_NOSIGNAL)
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, fmt.Errorf("pass HAProxy a connection: %w", err)
	}
	return net.FileConn(ours)
}

// pair makes a pair of sockets.
func pair() (theirs, ours *os.File, err error) {
	both, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(both[0]), "haproxy"), os.NewFile(uintptr(both[1]), "haproxy"), nil
}

// input is what HAProxy inherits, and our own end of it.
type input struct{ configuration, theirs, ours *os.File }

// openInput makes the configuration file and the pair of sockets.
func openInput(configuration string) (in input, err error) {
	in.configuration, err = program.InMemory("haproxy.cfg", func(w io.Writer) error {
		_, err := io.WriteString(w, configuration)
		return err
	})
	if err != nil {
		return in, err
	}
	if in.theirs, in.ours, err = pair(); err != nil {
		return in, errors.Join(err, in.close())
	}
	return in, nil
}

// files returns HAProxy's descriptors, in their order.
func (in input) files() []*os.File { return []*os.File{in.configuration, in.theirs} }

// close closes what is open.
func (in input) close() error {
	var errs []error
	for _, file := range []*os.File{in.configuration, in.theirs, in.ours} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
