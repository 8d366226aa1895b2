//go:build linux

package observe

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func procSockets() (Sockets, error) {
	var all Sockets
	for _, name := range []string{"tcp", "tcp6"} {
		data, path, err := readProcNet(name)
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			break // no IPv6
		}
		if err != nil {
			return nil, err
		}
		sockets, err := parseSockets(string(data), path)
		if err != nil {
			return nil, err
		}
		all = append(all, sockets...)
	}
	return all, nil
}

// parseSockets reads /proc/net/tcp (tcp4_seq_show) or tcp6 (tcp6_seq_show). The columns used are
// "sl local_address rem_address st tx_queue:rx_queue tr:tm->when".
func parseSockets(text, file string) (Sockets, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	sockets := make(Sockets, 0, len(lines))
	for i, line := range lines {
		if i == 0 { // titles
			continue
		}
		one, err := parseSocket(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("parse %s: line %d: %w", file, i+1, err)
		}
		sockets = append(sockets, one)
	}
	return sockets, nil
}

func parseSocket(column []string) (Socket, error) {
	if len(column) < 6 {
		return Socket{}, fmt.Errorf("%d columns, want 6 or more (truncated?)", len(column))
	}
	local, v6, err := parseEnd(column[1])
	if err != nil {
		return Socket{}, err
	}
	remote, _, err := parseEnd(column[2])
	if err != nil {
		return Socket{}, err
	}
	number, err := strconv.ParseUint(column[3], 16, 8)
	if err != nil {
		return Socket{}, fmt.Errorf("state: %w", err)
	}
	state, ok := stateNamed(uint8(number))
	if !ok {
		return Socket{}, fmt.Errorf("state %d is not known", number)
	}
	send, receive, err := parsePair(column[4], 32)
	if err != nil {
		return Socket{}, fmt.Errorf("queues: %w", err)
	}
	kind, ticks, err := parsePair(column[5], 64)
	if err != nil {
		return Socket{}, fmt.Errorf("timer: %w", err)
	}
	// The kernel scales to clock ticks for user space, USER_HZ = 100.
	const tick = 10 * time.Millisecond
	timer := timerNamed(uint8(kind))
	return Socket{
		State: state, Local: local, Remote: remote,
		Timer: timer, Expires: expires(timer, int64(ticks), tick),
		RecvQueue: uint32(receive), SendQueue: uint32(send), V6: v6,
	}, nil
}

// parseEnd reads "0100007F:0050": the address is the network order bytes, printed as one
// integer of the machine's own byte order, or as four for IPv6; the port is a number.
func parseEnd(text string) (end netip.AddrPort, v6 bool, err error) {
	digits, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != net.IPv4len && len(raw) != net.IPv6len {
		return end, false, fmt.Errorf("address %q is not 8 or 32 hexadecimal digits and a port", text)
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return end, false, fmt.Errorf("port of %q: %w", text, err)
	}
	for word := 0; word < len(raw); word += 4 {
		binary.NativeEndian.PutUint32(raw[word:], binary.BigEndian.Uint32(raw[word:]))
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), address.Is6(), nil
}

func parsePair(text string, bits int) (first, second uint64, err error) {
	left, right, _ := strings.Cut(text, ":")
	if first, err = strconv.ParseUint(left, 16, bits); err != nil {
		return 0, 0, err
	}
	second, err = strconv.ParseUint(right, 16, bits)
	return first, second, err
}
