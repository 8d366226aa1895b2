//go:build linux

package ns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

// here names the calling thread's network namespace.
func here() (string, error) {
	return os.Readlink("/proc/thread-self/ns/net")
}

func TestNewNamespaceIsEmptyAndNew(t *testing.T) {
	home, err := here()
	try(t, err)
	a, b := nstest.New(t), nstest.New(t)
	seen := map[string]bool{home: true}
	for _, space := range []*ns.Namespace{a, b} {
		var name string
		var links []net.Interface
		try(t, space.Do(func() error {
			var err error
			if name, err = here(); err != nil {
				return err
			}
			links, err = net.Interfaces()
			return err
		}))
		if seen[name] {
			t.Errorf("namespace %s is not a new one", name)
		}
		seen[name] = true
		inode, err := space.Inode()
		try(t, err)
		if want := fmt.Sprintf("net:[%d]", inode); name != want {
			t.Errorf("Do ran in %s, Inode says %s", name, want)
		}
		for _, l := range links {
			if l.Flags&net.FlagUp != 0 {
				t.Errorf("link %s is up in a new namespace", l.Name)
			}
		}
	}
}

func TestNoThreadStaysInside(t *testing.T) {
	home, err := here()
	try(t, err)
	space := nstest.New(t)
	inside, err := space.Inode()
	try(t, err)

	// All at once, so that they need 200 threads.
	const calls = 200
	var arrived, done sync.WaitGroup
	arrived.Add(calls)
	wrong := make(chan string, calls)
	for range calls {
		done.Go(func() {
			err := space.Do(func() error {
				arrived.Done()
				arrived.Wait()
				name, err := here()
				if want := fmt.Sprintf("net:[%d]", inside); name != want {
					wrong <- name
				}
				return err
			})
			if err != nil {
				wrong <- err.Error()
			}
		})
	}
	done.Wait()
	close(wrong)
	for w := range wrong {
		t.Errorf("inside Do: %s", w)
	}

	threads, err := filepath.Glob("/proc/self/task/*/ns/net") // the main thread included
	try(t, err)
	if len(threads) < calls/2 {
		t.Errorf("looked at %d threads, expected about %d", len(threads), calls)
	}
	for _, thread := range threads {
		if name, err := os.Readlink(thread); err == nil && name != home {
			t.Errorf("%s is %s, not %s", thread, name, home)
		}
	}
}

func TestDoReturnsTheErrorOfItsFunction(t *testing.T) {
	want := errors.New("from inside")
	if err := nstest.New(t).Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestDoTransportsPanicAndGoexit(t *testing.T) {
	home, err := here()
	try(t, err)
	space := nstest.New(t)
	want := errors.New("an error from inside")
	for name, c := range map[string]struct {
		leave func()
		want  string
	}{
		"panic":           {func() { panic("from inside") }, "recovered from inside"},
		"panic of errors": {func() { panic(want) }, "recovered an error from inside"},
		"goexit":          {runtime.Goexit, "unwound without a panic"},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := make(chan string, 1)
			go func() {
				returned := false
				defer func() {
					p, panicked := recover().(*ns.PanicError)
					switch {
					case panicked:
						if !strings.Contains(string(p.Stack), "ns_test.leaveByIt(") || !strings.Contains(p.Error(), string(p.Stack)) {
							t.Errorf("its stack does not show where it comes from: %v", p)
						}
						if errors.Is(p, want) != (p.Value == want) { //nolint:errorlint // whether it is this very value is what errors.Is is held against
							t.Errorf("errors.Is(%v, %v) = %v", p.Value, want, errors.Is(p, want))
						}
						outcome <- fmt.Sprint("recovered ", p.Value)
					case returned:
						outcome <- "returned"
					default:
						outcome <- "unwound without a panic"
					}
				}()
				_ = space.Do(func() error { return space.Do(func() error { return leaveByIt(c.leave) }) })
				returned = true
			}()
			if got := <-outcome; got != c.want {
				t.Errorf("the caller of Do %s, want: %s", got, c.want)
			}
			threads, err := filepath.Glob("/proc/self/task/*/ns/net")
			try(t, err)
			for _, thread := range threads {
				if name, err := os.Readlink(thread); err == nil && name != home {
					t.Errorf("%s stayed in %s", thread, name)
				}
			}
			if err := space.Do(func() error { return nil }); err != nil {
				t.Errorf("Do afterwards: %v", err)
			}
		})
	}
}

//go:noinline
func leaveByIt(leave func()) error {
	leave()
	return nil
}

func TestNestedDo(t *testing.T) {
	outer, inner := nstest.New(t), nstest.New(t)
	var path []string
	step := func() error {
		name, err := here()
		path = append(path, name)
		return err
	}
	try(t, outer.Do(func() error {
		return errors.Join(step(), inner.Do(func() error {
			return errors.Join(step(), outer.Do(step), step())
		}), step())
	}))
	o, err := outer.Inode()
	try(t, err)
	i, err := inner.Inode()
	try(t, err)
	got := fmt.Sprint(path)
	if want := fmt.Sprintf("[net:[%d] net:[%d] net:[%d] net:[%d] net:[%d]]", o, i, o, i, o); got != want {
		t.Errorf("went through %s, want %s", got, want)
	}
}

// A goroutine runs on any thread, so a function given to Do must not rely on one.
func TestGoroutineStartedInsideRunsOutside(t *testing.T) {
	home, err := here()
	try(t, err)
	var name string
	try(t, nstest.New(t).Do(func() error {
		var err error
		var started sync.WaitGroup
		started.Go(func() { name, err = here() })
		started.Wait()
		return err
	}))
	if name != home {
		t.Errorf("it ran in %s, not in %s", name, home)
	}
}

func TestClosedNamespace(t *testing.T) {
	space := nstest.New(t)
	try(t, space.Close())
	if err := space.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	ran := false
	if err := space.Do(func() error { ran = true; return nil }); !errors.Is(err, ns.ErrClosed) || ran {
		t.Errorf("Do: %v, ran: %v", err, ran)
	}
	if err := space.Use(func(int) error { ran = true; return nil }); !errors.Is(err, ns.ErrClosed) || ran {
		t.Errorf("Use: %v, ran: %v", err, ran)
	}
	if _, err := space.Inode(); !errors.Is(err, ns.ErrClosed) {
		t.Errorf("Inode: %v", err)
	}
}

// Close from elsewhere must neither pull the namespace away from a running
// function, nor wait for it while that function waits for Close.
func TestCloseDuringNestedDo(t *testing.T) {
	nstest.New(t)          // for its skip
	space, err := ns.New() // not to be closed again while it hangs
	try(t, err)
	home, err := here()
	try(t, err)
	finished := make(chan error, 1)
	go func() {
		finished <- space.Do(func() error {
			closing := make(chan struct{})
			go func() {
				close(closing)
				if err := space.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			<-closing
			for {
				// Until Close has made itself felt, one way or the other.
				err := space.Do(func() error { return nil })
				if errors.Is(err, ns.ErrClosed) {
					break
				}
				if err != nil {
					return err
				}
			}
			name, err := here()
			if name == home {
				return errors.Join(err, errors.New("the thread left its namespace"))
			}
			return err
		})
	}()
	select {
	case err := <-finished:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("deadlock: Close waits for the outer Do, which waits for the inner one, which waits for Close")
	}
}

func TestWatchSeesWhoHoldsANamespace(t *testing.T) {
	nstest.New(t) // for its skip
	watch, err := ns.NewWatch()
	try(t, err)
	defer watch.Close()

	alive := func(want int) {
		t.Helper()
		n, err := watch.Alive()
		try(t, err)
		if n != want {
			t.Errorf("%d namespaces alive, want %d", n, want)
		}
	}
	dead := func(want int) {
		t.Helper()
		try(t, observe.Await(t.Context(), fmt.Sprintf("%d namespaces alive", want), func() (bool, error) {
			n, err := watch.Alive()
			if n < want {
				return false, fmt.Errorf("%d namespaces alive, want %d", n, want)
			}
			return n == want, err
		}))
	}

	alive(0)
	plain, withSocket := nstest.New(t), nstest.New(t)
	try(t, errors.Join(watch.Add(plain), watch.Add(withSocket), watch.Add(plain)))
	alive(2)

	holder := holder(t)
	input, err := holder.StdinPipe()
	try(t, err)
	output, err := holder.StdoutPipe()
	try(t, err)
	try(t, holder.Start())
	var path string
	if _, err := fmt.Fscan(output, &path); err != nil {
		t.Fatal(err)
	}
	try(t, errors.Join(watch.AddPath(path), watch.AddPath(path)))
	alive(3)

	var socket int
	try(t, withSocket.Do(func() error {
		socket, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	try(t, errors.Join(plain.Close(), withSocket.Close()))
	dead(2) // plain is gone, so that the kernel has come to withSocket too
	alive(2)
	try(t, unix.Close(socket))
	dead(1)
	try(t, errors.Join(input.Close(), holder.Wait()))
	dead(0)

	if err := watch.Add(plain); !errors.Is(err, ns.ErrClosed) {
		t.Errorf("watch a closed namespace: %v", err)
	}
	for _, wrong := range []string{"/proc/thread-self/ns/pid", "/dev/null", "/nowhere"} {
		if err := watch.AddPath(wrong); err == nil {
			t.Errorf("watched %s", wrong)
		}
	}
	try(t, errors.Join(watch.Close(), watch.Close()))
	if _, err := watch.Alive(); !errors.Is(err, ns.ErrClosed) {
		t.Errorf("ask a closed watch: %v", err)
	}
}
