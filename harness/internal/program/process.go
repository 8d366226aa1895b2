//go:build linux

package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is what the kernel knows of a process that runs. It needs nothing of the process,
// which may be stopped.
type Process struct {
	PID, Parent int
	// Paused says that a signal has stopped it (state T in proc(5)).
	Paused bool
	// Listeners and Connections are the numbers of its TCP sockets that listen, and of
	// those that do not. A connection in an accept queue is not yet one of its sockets.
	Listeners, Connections int
}

// Look returns the program's process, and those that it has started and that run still, in
// the order of their ids. None is left when the program has ended.
func (p *Program) Look() (all []Process, err error) {
	if p.HasEnded() {
		return nil, nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		one, runs, err := stat(file)
		if err != nil {
			return nil, err
		}
		if !runs || one.PID != p.PID() && one.Parent != p.PID() {
			continue
		}
		if runs, err = one.sockets(); err != nil {
			return nil, err
		}
		if runs {
			all = append(all, one)
		}
	}
	return all, nil
}

// stat reads /proc/PID/stat: "PID (name) state parent ...". runs is false when the process
// has ended.
func stat(file string) (one Process, runs bool, err error) {
	text, err := os.ReadFile(file)
	if gone(err) {
		return one, false, nil
	}
	if err != nil {
		return one, false, err
	}
	line := string(text)
	var state string
	_, err = fmt.Sscan(line, &one.PID)
	if err == nil {
		// The name may contain anything.
		_, err = fmt.Sscan(line[strings.LastIndexByte(line, ')')+1:], &state, &one.Parent)
	}
	if err != nil {
		return one, false, fmt.Errorf("%s: %q: %w", file, line, err)
	}
	one.Paused = state == "T"
	return one, state != "Z" && state != "X", nil
}

// ends reports whether a process has no memory any more, on its way out (exit_mm). Its descriptors
// are root's then (task_dump_owner), and nobody else's to read.
func ends(dir string) bool {
	pages, err := os.ReadFile(dir + "/statm")
	return gone(err) || err == nil && strings.HasPrefix(string(pages), "0 ")
}

// sockets counts the TCP sockets of the process: its descriptors (/proc/PID/fd) that are in
// the tables of its network namespace (/proc/PID/net/tcp, tcp4_seq_show).
func (one *Process) sockets() (runs bool, err error) {
	dir := "/proc/" + strconv.Itoa(one.PID)
	own := map[string]bool{}
	descriptors, err := os.ReadDir(dir + "/fd")
	if gone(err) || errors.Is(err, fs.ErrPermission) && ends(dir) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, d := range descriptors {
		target, err := os.Readlink(filepath.Join(dir, "fd", d.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, is := strings.CutPrefix(target, "socket:["); is {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(dir, "net", table))
		if table == "tcp6" && errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if gone(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(text)) {
			const state, inode, listen = 3, 9, "0A"
			columns := strings.Fields(line)
			switch {
			case len(columns) <= inode || !own[columns[inode]]:
			case columns[state] == listen:
				one.Listeners++
			default:
				one.Connections++
			}
		}
	}
	return true, nil
}

// gone reports whether an error of a file below /proc/PID means that the process has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
}

// Catches reports whether the program has a handler for a signal, and takes it at once: the
// masks SigCgt and SigBlk of /proc/PID/status (task_sig). It is false when the program has
// ended.
func (p *Program) Catches(s unix.Signal) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	masks := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigBlk" && name != "SigCgt" {
			continue
		}
		if masks[name], err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			return false, fmt.Errorf("%s of process %d: %w", name, p.PID(), err)
		}
	}
	bit := uint64(1) << (s - 1)
	return masks["SigCgt"]&bit != 0 && masks["SigBlk"]&bit == 0, nil
}
