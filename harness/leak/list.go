//go:build linux

package leak

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thing is something that the process holds.
type thing struct {
	name       string // the same during the life of the thing
	descriptor int    // -1 when it is not a descriptor
}

// String adds details to the name of a socket.
func (t thing) String() string {
	if t.descriptor < 0 || !strings.Contains(t.name, socketPrefix) {
		return t.name
	}
	return t.name + describe(t.descriptor)
}

// The beginnings of what readlink(2) returns for a descriptor.
const (
	socketPrefix = "socket:["
	pipePrefix   = "pipe:["
)

func isPipe(name string) bool { return strings.Contains(name, ": "+pipePrefix) }

// bpfToken is what readlink(2) returns for a BPF token (bpf_token_create, Linux 6.9).
// Package ebpf opens one for the whole process with the first program that is loaded in a
// sandbox, and keeps it (internal/sys/token.go).
const bpfToken = "/bpf-token (deleted)"

// list lists everything except the goroutines.
func list() ([]thing, error) {
	var all []thing
	for _, part := range []func() ([]thing, error){descriptors, mappings, threads, children} {
		some, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func descriptors() (all []thing, err error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	token := false
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the descriptor of ReadDir itself
		}
		number, bad := strconv.Atoi(e.Name())
		if err := errors.Join(err, bad); err != nil {
			return nil, err
		}
		if target == bpfToken && !token {
			token = true // one of them; a second one would be a leak
			continue
		}
		all = append(all, thing{fmt.Sprintf("descriptor %d: %s", number, target), number})
	}
	return all, nil
}

// mappings lists sockets that are mapped into memory, as the ring of a tap is: a mapping
// holds the socket, and its namespace, without a descriptor.
func mappings() (all []thing, err error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if at := strings.Index(line, socketPrefix); at >= 0 {
			all = append(all, thing{"memory of " + strings.TrimSpace(line[at:]), -1})
		}
	}
	return all, nil
}

// threads lists the network namespaces that contain threads of this process.
func threads() (all []thing, err error) {
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, link := range links {
		space, err := os.Readlink(link)
		if err != nil {
			continue // the thread has ended
		}
		if !seen[space] {
			all = append(all, thing{"network namespace " + space + " with a thread in it", -1})
		}
		seen[space] = true
	}
	return all, nil
}

// children lists the child processes of this process, zombies too.
func children() (all []thing, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// proc_pid_stat(5): "123 (its name) S 45 ...", and a name may have blanks.
		from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if from < 0 || to < from {
			return nil, fmt.Errorf("%s: %q", path, stat)
		}
		var state string
		var parent int
		if _, err := fmt.Sscan(string(stat[to+1:]), &state, &parent); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if parent != os.Getpid() {
			continue
		}
		dir := filepath.Dir(path)
		command := string(stat[from+1 : to])
		if text, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(text) > 0 {
			command = strings.TrimSpace(string(bytes.ReplaceAll(text, []byte{0}, []byte{' '})))
		}
		if state == "Z" {
			command += " (ended, not waited for)"
		}
		all = append(all, thing{fmt.Sprintf("child process %s: %s", filepath.Base(dir), command), -1})
	}
	return all, nil
}

// describe says what is known about a socket.
func describe(socket int) (text string) {
	var kind [3]int
	for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
		kind[i], _ = unix.GetsockoptInt(socket, unix.SOL_SOCKET, option)
	}
	text = fmt.Sprintf(" (domain %d, type %d, protocol %d", kind[0], kind[1], kind[2])
	if local, err := unix.Getsockname(socket); err == nil {
		text += " at " + address(local)
	}
	if remote, err := unix.Getpeername(socket); err == nil {
		text += " to " + address(remote)
	}
	text += ")"
	if space, err := spaceOf(socket); err == nil { // this needs CAP_NET_ADMIN
		text += " in network namespace " + space
	}
	return text
}

func address(a unix.Sockaddr) string {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return strconv.Quote(a.Name)
	default:
		return fmt.Sprintf("%+v", a)
	}
}

// spaceOf returns the network namespace of a socket (SIOCGSKNS).
func spaceOf(socket int) (string, error) {
	fd, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return "", err
	}
	space := os.NewFile(uintptr(fd), "netns")
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return name, errors.Join(err, space.Close())
}
