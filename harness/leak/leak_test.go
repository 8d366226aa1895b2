//go:build linux

package leak_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/internal/nstest"
	"twlab/harness/leak"
	"twlab/harness/ns"
	"twlab/harness/observe"
)

func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kinds leak one thing each. They say how the report names it, and give it back.
var kinds = map[string]func(t *testing.T) (want string, back func() error){
	"descriptor": func(t *testing.T) (string, func() error) {
		file := open(t)
		return fmt.Sprintf("descriptor %d: %s", file.Fd(), os.DevNull), file.Close
	},
	"goroutine": func(*testing.T) (string, func() error) {
		stop, ended := make(chan struct{}), make(chan struct{})
		go waitForNothing(stop, ended)
		return "leak_test.waitForNothing", func() error { close(stop); <-ended; return nil }
	},
	"goroutine in a system call": func(t *testing.T) (string, func() error) {
		var pipe [2]int
		noError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
		ended := make(chan error)
		go readForEver(pipe[0], ended)
		return "leak_test.readForEver", func() error {
			err := unix.Close(pipe[1])
			return errors.Join(err, <-ended, unix.Close(pipe[0]))
		}
	},
	"child process": func(t *testing.T) (string, func() error) {
		c := exec.CommandContext(t.Context(), "sleep", "1000")
		noError(t, c.Start())
		return fmt.Sprintf("child process %d: sleep 1000", c.Process.Pid), func() error {
			err := c.Process.Kill()
			_ = c.Wait() // it was killed, and says so
			return err
		}
	},
	"zombie": func(t *testing.T) (string, func() error) {
		c := exec.CommandContext(t.Context(), "true")
		noError(t, c.Start())
		return fmt.Sprintf("child process %d: true (ended", c.Process.Pid), c.Wait
	},
	"namespace by its descriptor": func(t *testing.T) (string, func() error) {
		space := newNamespace(t)
		inode, err := space.Inode()
		noError(t, err)
		return fmt.Sprintf(": net:[%d]", inode), space.Close
	},
	"namespace by a socket": func(t *testing.T) (string, func() error) {
		space := newNamespace(t)
		inode, err := space.Inode()
		noError(t, err)
		var socket int
		noError(t, errors.Join(space.Do(func() (err error) {
			socket, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return err
		}), space.Close()))
		return fmt.Sprintf("] (domain 2, type 1, protocol 6 at 0.0.0.0:0) in network namespace net:[%d]", inode), func() error { return unix.Close(socket) }
	},
	"namespace by a thread": func(t *testing.T) (string, func() error) {
		space := newNamespace(t)
		inode, err := space.Inode()
		noError(t, err)
		inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
		go func() {
			left <- space.Do(func() error { close(inside); <-leave; return nil })
		}()
		<-inside
		noError(t, space.Close())
		return fmt.Sprintf("network namespace net:[%d] with a thread in it", inode), func() error { close(leave); return <-left }
	},
	"namespace by the memory of a tap": func(t *testing.T) (string, func() error) {
		space := newNamespace(t)
		var memory []byte
		noError(t, errors.Join(space.Do(func() (err error) {
			memory, err = mapRing()
			return err
		}), space.Close()))
		return "memory of socket:[", func() error { return unix.Munmap(memory) }
	},
}

func waitForNothing(stop <-chan struct{}, ended chan<- struct{}) {
	<-stop
	close(ended)
}

func readForEver(pipe int, ended chan<- error) {
	_, err := unix.Read(pipe, make([]byte, 1))
	ended <- err
}

func newNamespace(t *testing.T) *ns.Namespace {
	t.Helper()
	noError(t, nstest.New(t).Close()) // for its skip
	space, err := ns.New()
	noError(t, err)
	return space
}

// mapRing maps the ring of a packet socket and closes the socket.
func mapRing() (memory []byte, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const size = 1 << 16
	ring := unix.TpacketReq{Block_size: size, Block_nr: 1, Frame_size: size, Frame_nr: 1}
	if err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &ring); err == nil {
		memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	}
	return memory, errors.Join(err, unix.Close(fd))
}

func TestEachKindIsNamedUntilItIsGivenBack(t *testing.T) {
	for name, take := range kinds {
		t.Run(name, func(t *testing.T) {
			before, err := leak.Take()
			noError(t, err)
			want, back := take(t)
			soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
			defer stop()
			// A program takes a moment until it has its name, and to end.
			err = observe.Await(soon, "a report that says "+want, func() (bool, error) {
				ended, end := context.WithCancel(t.Context())
				end() // one look
				err = before.Left(ended)
				return err != nil && strings.Contains(err.Error(), want), nil
			})
			if err != nil {
				t.Errorf("%v; it says: %v", err, before.Left(soon))
			}
			noError(t, back())
			again, stop := context.WithTimeout(t.Context(), 10*time.Second)
			defer stop()
			if err := before.Left(again); err != nil {
				t.Errorf("given back, and yet: %v", err)
			}
		})
	}
}

// What ends a little later, by itself, is no leak.
func TestWaitsForWhatEndsByItself(t *testing.T) {
	before, err := leak.Take()
	noError(t, err)
	c := exec.CommandContext(t.Context(), "sleep", "0.3")
	noError(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	noError(t, before.Left(soon))
	select {
	case err := <-ended:
		noError(t, err)
	default:
		t.Error("it did not wait for the process")
	}
}

// A pipe may take the place of another one, and no more than that.
func TestAPipeIsAsGoodAsAnother(t *testing.T) {
	first := pipe(t)
	before, err := leak.Take()
	noError(t, err)
	second := pipe(t)
	noError(t, first())
	ended, end := context.WithCancel(t.Context())
	end()
	noError(t, before.Left(ended))
	third := pipe(t)
	if err := before.Left(ended); err == nil || strings.Count(err.Error(), ": pipe:[") != 2 {
		t.Errorf("%v, want the two ends of a pipe", err)
	}
	noError(t, errors.Join(second(), third()))
}

func pipe(t *testing.T) (closed func() error) {
	t.Helper()
	r, w, err := os.Pipe()
	noError(t, err)
	return func() error { return errors.Join(r.Close(), w.Close()) }
}

// tests are what a testing.M is to Run.
type tests func() int

func (f tests) Run() int { return f() }

func TestRunFailsTestsThatLeak(t *testing.T) {
	var file *os.File
	for name, c := range map[string]struct {
		tests tests
		code  int
		says  string
	}{
		"leave nothing":      {func() int { return 0 }, 0, ""},
		"fail by a code":     {func() int { return 7 }, 7, ""},
		"leave a descriptor": {func() (code int) { file = open(t); return 0 }, 1, "left behind:\ndescriptor "},
		"fail and leave one": {func() int { file = open(t); return 7 }, 7, "left behind:\ndescriptor "},
	} {
		t.Run(name, func(t *testing.T) {
			file = nil
			var out strings.Builder
			if code := leak.RunWithin(c.tests, &out, 10*time.Millisecond); code != c.code || !strings.Contains(out.String(), c.says) || (c.says == "") != (out.Len() == 0) {
				t.Errorf("exit code %d, want %d; it says %q, want %q", code, c.code, &out, c.says)
			}
			if file != nil {
				noError(t, file.Close())
			}
		})
	}
}

func open(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Open(os.DevNull)
	noError(t, err)
	return file
}

// Every package below harness that has tests ends them by Run: nobody has to
// remember.
func TestEveryPackageBelowHarnessIsChecked(t *testing.T) {
	checked := map[string]bool{} // by directory
	noError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		checked[dir] = checked[dir] || runsInMain(file)
		return nil
	}))
	if len(checked) < 10 {
		t.Errorf("tests in %d packages only: are we below harness?", len(checked))
	}
	for dir, ok := range checked {
		if !ok {
			t.Errorf("the tests of %s leave what they like: "+
				"give them func TestMain(m *testing.M) { os.Exit(leak.Run(m)) }, or exampletest.Main", filepath.Join("harness", dir))
		}
	}
}

// runsInMain tells whether a file has a TestMain and calls leak.Run, or exampletest.Main,
// which does.
func runsInMain(file *ast.File) bool {
	main, calls := false, false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			main = main || n.Name.Name == "TestMain" && n.Recv == nil
		case *ast.SelectorExpr:
			in, ok := n.X.(*ast.Ident)
			calls = calls || ok && (in.Name == "leak" && n.Sel.Name == "Run" || in.Name == "exampletest" && n.Sel.Name == "Main")
		}
		return true
	})
	return main && calls
}
