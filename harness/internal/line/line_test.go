package line_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"twlab/harness/internal/line"
)

var errSome = errors.New("some sentinel")

// detail is an error that says something of itself.
type detail struct{ Name string }

func (d *detail) Error() string { return "detail " + d.Name }

var known = line.Errors{
	Sentinels: map[string]error{"errSome": errSome},
	Codecs: map[string]line.Codec{"detail": line.CodecOf(
		func(d *detail) string { return d.Name }, func(name string) *detail { return &detail{name} },
	)},
}

const (
	double line.Method[int, int]             = "double"
	fail   line.Method[string, line.None]    = "fail"
	wait   line.Method[line.None, line.None] = "wait" // until its context ends
)

func newServer() *line.Server {
	s := line.NewServer(known)
	double.Serve(s, func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	fail.Serve(s, func(_ context.Context, how string) (none line.None, err error) {
		switch how {
		case "sentinel":
			err = fmt.Errorf("step: %w", errSome)
		case "errno":
			err = fmt.Errorf("step: %w", unix.EADDRINUSE)
		case "typed":
			err = fmt.Errorf("step: %w", &detail{"x"})
		}
		return none, err
	})
	wait.Serve(s, func(ctx context.Context, _ line.None) (none line.None, err error) {
		<-ctx.Done()
		return none, ctx.Err()
	})
	return s
}

// connect makes a caller and a server at the two ends of a pipe.
func connect(t *testing.T) *line.Caller {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- newServer().Serve(t.Context(), far) }()
	c := line.NewCaller(near, known, 0)
	t.Cleanup(func() {
		c.Close()
		// The server meets the end of the line when it reads, or when it writes the answer to a
		// call that was given up.
		if err := <-served; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("server ended by %v, want the end of the line", err)
		}
	})
	if err := c.Greet(t.Context(), newServer().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManyCallsAtATime(t *testing.T) {
	c := connect(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls errgroup.Group
	calls.Go(func() error {
		if _, err := wait.Call(ctx, c, line.None{}); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("the waiting call: %w", err)
		}
		return nil
	})
	for n := range 100 {
		calls.Go(func() error {
			got, err := double.Call(t.Context(), c, n)
			if err == nil && got != 2*n {
				err = fmt.Errorf("double %d is %d", n, got)
			}
			if n == 99 {
				stop()
			}
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreTheSameOnBothSides(t *testing.T) {
	c := connect(t)
	for how, want := range map[string]struct {
		text string
		is   error
	}{
		"sentinel": {"step: some sentinel", errSome},
		"errno":    {"step: address already in use", unix.EADDRINUSE},
		"typed":    {"step: detail x", nil},
	} {
		_, err := fail.Call(t.Context(), c, how)
		if want.is != nil && !errors.Is(err, want.is) || err.Error() != want.text || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %q that is %v", how, err, want.text, want.is)
		}
		var explained *detail
		if errors.As(err, &explained) != (how == "typed") || how == "typed" && explained.Name != "x" {
			t.Errorf("%s: %+v", how, explained)
		}
	}
}

func TestDeadlineIsOfTheCaller(t *testing.T) {
	c := connect(t)
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := wait.Call(short, c, line.None{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}

func TestUnknownMethod(t *testing.T) {
	c := connect(t)
	const other line.Method[int, int] = "other"
	if _, err := other.Call(t.Context(), c, 1); err == nil || !strings.Contains(err.Error(), `no method "other"`) {
		t.Error(err)
	}
}

func TestFingerprintKnowsNamesAndTypes(t *testing.T) {
	type inner struct{ A int }
	type small struct{ Inner []inner }
	prints := map[string]string{}
	for name, s := range map[string]func(*line.Server){
		"nothing":    func(*line.Server) {},
		"double":     func(s *line.Server) { double.Serve(s, nil) },
		"other name": func(s *line.Server) { line.Method[int, int]("triple").Serve(s, nil) },
		"other type": func(s *line.Server) { line.Method[int, int64]("double").Serve(s, nil) },
		"struct":     func(s *line.Server) { line.Method[small, int]("double").Serve(s, nil) },
		"inside": func(s *line.Server) {
			type inner struct{ B int }
			type small struct{ Inner []inner }
			line.Method[small, int]("double").Serve(s, nil)
		},
	} {
		server := line.NewServer(line.Errors{})
		s(server)
		if other, taken := prints[server.Fingerprint()]; taken {
			t.Errorf("%s and %s have the same fingerprint", name, other)
		}
		prints[server.Fingerprint()] = name
	}
	if first, second := newServer().Fingerprint(), newServer().Fingerprint(); first != second {
		t.Errorf("two servers alike, and fingerprints %s and %s", first, second)
	}
}

func TestOtherVersion(t *testing.T) {
	near, far := net.Pipe()
	go func() { _ = line.NewServer(line.Errors{}).Serve(t.Context(), far) }()
	c := line.NewCaller(near, known, 0)
	defer c.Close()
	if err := c.Greet(t.Context(), newServer().Fingerprint()); !errors.Is(err, line.ErrVersion) {
		t.Errorf("%v, want ErrVersion", err)
	}
}

// However the line is lost, calls end, those under way and those to come.
func TestLostLine(t *testing.T) {
	for name, c := range map[string]struct {
		maxSilence time.Duration
		far        func(net.Conn) // is called when a call has come in
		says       string
	}{
		"ends":         {0, func(far net.Conn) { _ = far.Close() }, "line lost"},
		"garbled":      {0, func(far net.Conn) { _, _ = io.WriteString(far, "Kernel panic - not syncing") }, "garbled"},
		"wrong length": {0, func(far net.Conn) { _, _ = io.WriteString(far, "twl\x01\xff\xff\xff\xff0000") }, "garbled"},
		"wrong sum":    {0, func(far net.Conn) { _, _ = io.WriteString(far, "twl\x01\x00\x00\x00\x010000x") }, "checksum"},
		"silent":       {200 * time.Millisecond, func(net.Conn) {}, "silent for"},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			caller := line.NewCaller(near, line.Errors{}, c.maxSilence)
			defer caller.Close()
			go func() {
				if _, err := far.Read(make([]byte, 1)); err == nil {
					go func() { _, _ = io.Copy(io.Discard, far) }()
					c.far(far)
				}
			}()
			began := time.Now()
			for range 2 {
				_, err := double.Call(t.Context(), caller, 1)
				if !errors.Is(err, line.ErrLost) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want ErrLost and %q", err, c.says)
				}
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if err := far.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The other side takes nothing any more, as a machine that hangs.
func TestStuckLine(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	caller := line.NewCaller(near, line.Errors{}, 200*time.Millisecond)
	defer caller.Close()
	if _, err := double.Call(t.Context(), caller, 1); !errors.Is(err, line.ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
}
