//go:build linux

// Package ns owns network namespaces by file descriptor.
//
// It is the only package that moves threads between namespaces. A network namespace belongs
// to a thread, and Go moves goroutines between threads, so code that must run inside a
// namespace is passed to [Namespace.Do] as a function. Whatever that function opens
// (sockets, netlink handles, packet captures) stays in its namespace for its whole life and
// may be used from anywhere afterwards: open inside, use outside.
//
// A namespace has no name and no mount. It exists exactly as long as something holds it: a
// descriptor of this process, or a socket inside it. A killed process therefore leaves none
// behind.
package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by methods of a Namespace after Close.
var ErrClosed = errors.New("namespace is closed")

// Namespace is one anonymous network namespace, held by a file descriptor.
// Its methods may be called from any goroutine.
type Namespace struct {
	mu   sync.RWMutex // held for reading while the descriptor is in use
	file *os.File     // nil after Close
}

// New makes an empty network namespace, which contains only a loopback device that is down.
// It needs CAP_SYS_ADMIN in the current user namespace (unshare(2), CLONE_NEWNET). The
// caller must Close it.
func New() (*Namespace, error) {
	return newBy(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network namespace: %w", err)
		}
		return nil
	})
}

// newBy returns the namespace to which unshare moves its thread.
func newBy(unshare func() error) (*Namespace, error) {
	var made *os.File
	err := onThread(unshare, func() error {
		handle, err := netns.Get()
		if err == nil {
			made = os.NewFile(uintptr(handle), "netns")
		}
		return err
	})
	if err != nil {
		if made != nil { // and the thread could not return
			err = errors.Join(err, made.Close())
		}
		return nil, err
	}
	return &Namespace{file: made}, nil
}

// Do runs f on a thread that is inside the namespace, waits for it, and returns its error.
// A panic in f, or a runtime.Goexit, reaches the caller of Do as if f had been called
// directly. The panic value is then a *[PanicError], because its stack belongs to another
// goroutine.
//
// f must not start goroutines that rely on the namespace: they run outside. Paths such as
// /proc/net show another thread's namespace; f must use /proc/thread-self/net. Nested calls
// are allowed; each runs on a thread of its own.
func (n *Namespace) Do(f func() error) error {
	// Only entering needs the descriptor. A thread that is inside keeps the namespace, so
	// Close neither waits for f nor disturbs it.
	return onThread(func() error {
		return n.Use(func(fd int) error {
			if err := netns.Set(netns.NsHandle(fd)); err != nil {
				return fmt.Errorf("enter network namespace: %w", err)
			}
			return nil
		})
	}, f)
}

// Use calls f with the namespace's file descriptor, which is valid only during the call.
// netlink uses it to move a device there, or to open a handle there.
func (n *Namespace) Use(f func(fd int) error) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.file == nil {
		return ErrClosed
	}
	return f(int(n.file.Fd()))
}

// Inode returns the number that identifies the namespace in /proc/PID/ns/net
// ("net:[4026532281]"). The kernel may reuse it after this namespace is gone.
func (n *Namespace) Inode() (uint64, error) {
	var st unix.Stat_t
	err := n.Use(func(fd int) error {
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("stat network namespace: %w", err)
		}
		return nil
	})
	return st.Ino, err
}

// Close releases the namespace. The kernel removes it, with its devices, rules and routes,
// a little after nothing else holds it. A second Close does nothing.
func (n *Namespace) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	err := n.file.Close()
	n.file = nil
	return err
}

// PanicError is a panic inside [Namespace.Do], as the caller gets it.
type PanicError struct {
	Value any    //nolint:forbidigo // what recover returns
	Stack []byte // of the goroutine that panicked, as debug.Stack formats it
}

// carry wraps the value of recover with the stack of the calling function's goroutine. It
// returns nil for nil, which means that f has called runtime.Goexit.
func carry(recovered any) *PanicError { //nolint:forbidigo // what recover returns
	if recovered == nil {
		return nil
	}
	if p, inner := recovered.(*PanicError); inner {
		return p // of a nested Do
	}
	return &PanicError{Value: recovered, Stack: debug.Stack()}
}

// Error returns the value and the stack; the runtime prints it when the panic is not
// recovered.
func (p *PanicError) Error() string { return fmt.Sprintf("%v\n\nits stack:\n%s", p.Value, p.Stack) }

// Unwrap returns the value when it is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// onThread runs enter, which moves its thread to another namespace or fails, and then f, on
// a goroutine locked to its thread. It moves the thread back before other goroutines may
// use it again.
func onThread(enter, f func() error) error {
	var (
		err      error
		panicked *PanicError
		normal   bool
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() {
			if !normal {
				panicked = carry(recover())
			}
		}()
		err = lockedThread(enter, f)
		normal = true
	}()
	<-done
	switch {
	case normal:
		return err
	case panicked != nil:
		panic(panicked)
	default:
		runtime.Goexit()
		return nil
	}
}

func lockedThread(enter, f func() error) (err error) {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	if err := enter(); err != nil {
		runtime.UnlockOSThread()
		return errors.Join(err, origin.Close())
	}
	defer func() {
		if restore := netns.Set(origin); restore != nil {
			// The thread stays locked, so that it ends with this goroutine
			// and no other goroutine ever runs in the wrong namespace.
			err = errors.Join(err, fmt.Errorf("return to the thread's network namespace (terminating the thread): %w", restore))
		} else {
			runtime.UnlockOSThread()
		}
		err = errors.Join(err, origin.Close())
	}()
	return f()
}
