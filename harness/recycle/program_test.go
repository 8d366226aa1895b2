//go:build linux

package recycle

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"twlab/harness/ns"
	"twlab/harness/tcp"
)

// What the test's packets say unless a case says otherwise.
var (
	phone      = netip.MustParseAddr("192.0.2.1")
	listener   = netip.MustParseAddrPort("198.51.100.1:80")
	noListener = uint16(81)
)

const lastShown uint32 = 1000

// packet is a TCP segment over IPv4 and Ethernet.
type packet struct {
	from     netip.Addr
	to       uint16
	flags    byte
	options  []byte
	fragment uint16 // offset in units of 8 bytes
	protocol byte
	ipWords  byte // options of IP, in words
	cut      int  // bytes that are missing at the end
}

func stamp(value uint32) []byte {
	option := binary.BigEndian.AppendUint32([]byte{optionTimestamps, timestampsLength}, value)
	return append(option, 0, 0, 0, 0)
}

func (p packet) bytes() []byte {
	options := append(slices.Clone(p.options), make([]byte, (4-len(p.options)%4)%4)...)
	frame := append(make([]byte, 12), 0x08, 0x00)
	from, to := p.from.As4(), listener.Addr().As4()
	ip := make([]byte, ipMinimum+4*int(p.ipWords))
	ip[0] = 0x45 + p.ipWords
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+tcpMinimum+len(options)))
	binary.BigEndian.PutUint16(ip[ipFragment:], p.fragment)
	ip[8], ip[ipProtocol] = 64, p.protocol
	copy(ip[ipSource:], from[:])
	copy(ip[ipSource+4:], to[:])
	segment := make([]byte, tcpMinimum)
	binary.BigEndian.PutUint16(segment, 40000)
	binary.BigEndian.PutUint16(segment[2:], p.to)
	segment[tcpOffset] = byte((tcpMinimum+len(options))/4) << 4
	segment[tcpOffset+1] = p.flags
	whole := slices.Concat(frame, ip, segment, options)
	return whole[:len(whole)-p.cut]
}

// The check itself, packet by packet: it knows a peer that has shown a timestamp.
func TestCheck(t *testing.T) {
	space := emptySpace(t)
	host := tcp.NewHost("here", space.Do)
	t.Cleanup(func() {
		if err := errors.Join(host.CloseAll(), space.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := host.Listen(t.Context(), tcp.ListenSpec{At: netip.AddrPortFrom(netip.IPv4Unspecified(), listener.Port())}); err != nil {
		t.Fatal(err)
	}
	const passes, drops = int32(verdictNext), int32(verdictDrop)
	usual := packet{from: phone, to: listener.Port(), flags: flagSYN, options: stamp(lastShown - 2), protocol: unix.IPPROTO_TCP}
	padding := func(before ...byte) []byte { return append(before, usual.options...) }
	for _, c := range []struct {
		name   string
		change func(*packet)
		config Config
		age    time.Duration
		shown  uint32
		want   int32
	}{
		{name: "two ticks older", want: drops},
		{name: "one tick older", change: func(p *packet) { p.options = stamp(lastShown - 1) }, want: passes},
		{name: "the same tick", change: func(p *packet) { p.options = stamp(lastShown) }, want: passes},
		{name: "newer", change: func(p *packet) { p.options = stamp(lastShown + 1<<30) }, want: passes},
		{name: "half the clock newer is older", change: func(p *packet) { p.options = stamp(lastShown + 1<<31 + 1) }, want: drops},
		{name: "newer past 2^32", shown: 1<<32 - 10, change: func(p *packet) { p.options = stamp(5) }, want: passes},
		{name: "older before 2^32", shown: 5, change: func(p *packet) { p.options = stamp(1<<32 - 10) }, want: drops},
		{name: "no timestamp", change: func(p *packet) { p.options = nil }, want: passes},
		{name: "no timestamp, strictly", change: func(p *packet) { p.options = nil }, config: Config{Strict: true}, want: drops},
		{name: "newer, strictly", change: func(p *packet) { p.options = stamp(lastShown) }, config: Config{Strict: true}, want: passes},
		{name: "at 59 s", age: 59 * time.Second, want: drops},
		{name: "at 60 s", age: 60 * time.Second, want: passes},
		{name: "at 60 s, strictly without a timestamp", age: 60 * time.Second, change: func(p *packet) { p.options = nil },
			config: Config{Strict: true}, want: passes},
		{name: "after a shorter window", age: time.Second, config: Config{Window: time.Second}, want: passes},
		{name: "another address", change: func(p *packet) { p.from = p.from.Next() }, want: passes},
		{name: "no listener", change: func(p *packet) { p.to = noListener }, want: passes},
		{name: "no SYN", change: func(p *packet) { p.flags = flagACK }, want: passes},
		{name: "a SYN-ACK", change: func(p *packet) { p.flags = flagSYN | flagACK }, want: passes},
		{name: "a SYN with RST", change: func(p *packet) { p.flags = flagSYN | flagRST }, want: passes},
		{name: "a SYN with ECN", change: func(p *packet) { p.flags = flagSYN | 0xc0 }, want: drops},
		{name: "a later fragment", change: func(p *packet) { p.fragment = 1 }, want: passes},
		{name: "may not be fragmented", change: func(p *packet) { p.fragment = 0x4000 }, want: drops},
		{name: "UDP", change: func(p *packet) { p.protocol = unix.IPPROTO_UDP }, want: passes},
		{name: "with IP options", change: func(p *packet) { p.ipWords = 2 }, want: drops},
		{name: "behind other options", change: func(p *packet) {
			p.options = padding(2, 4, 5, 0xb4, 4, 2)
		}, want: drops},
		{name: "behind padding", change: func(p *packet) { p.options = padding(1, 1) }, want: drops},
		{name: "behind the end of options", change: func(p *packet) { p.options = padding(0, 0) }, want: passes},
		{name: "behind an option without length", change: func(p *packet) { p.options = padding(3, 0) }, want: passes},
		{name: "behind an option that is too long", change: func(p *packet) { p.options = padding(3, 200) }, want: passes},
		{name: "of the wrong length", change: func(p *packet) { p.options[1] = 9 }, want: passes},
		{name: "full of padding", change: func(p *packet) { p.options = slices.Repeat([]byte{1}, optionsMost) }, want: passes},
		{name: "cut off in its options", change: func(p *packet) { p.cut = 10 }, want: passes},
		{name: "cut off in its header", change: func(p *packet) { p.cut = 20 }, want: passes},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &Emulation{}
			if err := e.load(c.config); err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			p := usual
			p.options = slices.Clone(usual.options)
			if c.change != nil {
				c.change(&p)
			}
			shown := lastShown
			if c.shown != 0 {
				shown = c.shown
			}
			e.know(t, shown, c.age)
			if got := e.verdict(t, space, p); got != c.want {
				t.Errorf("verdict %d, want %d", got, c.want)
			}
			dropped, err := e.Drops()
			if want := c.want == drops; err != nil || dropped > 1 || (dropped == 1) != want {
				t.Errorf("%d drops, %v", dropped, err)
			}
		})
	}
}

// know writes the phone down as the program does, some time ago.
func (e *Emulation) know(t *testing.T, shown uint32, age time.Duration) {
	t.Helper()
	from, to := phone.As4(), listener.Addr().As4()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	if err := e.peers.Put(slices.Concat(from[:], to[:]), peer{At: uint64(now.Nano() - int64(age)), Timestamp: shown}); err != nil {
		t.Fatal(err)
	}
}

// testRun is what BPF_PROG_TEST_RUN takes (union bpf_attr).
type testRun struct {
	program, verdict      uint32
	dataSize, outSize     uint32
	data, out             uint64
	repeat, duration      uint32
	contextSize, outSize2 uint32
	context, outContext   uint64
}

// verdict is what the program says of one packet, as if it had arrived there. The
// library's own call first finds out whether the kernel has it, which a sandbox
// does not let it.
func (e *Emulation) verdict(t *testing.T, at *ns.Namespace, p packet) int32 {
	t.Helper()
	data := p.bytes()
	run := testRun{program: uint32(e.program.FD()), dataSize: uint32(len(data)), data: uint64(uintptr(unsafe.Pointer(&data[0])))}
	err := at.Do(func() error {
		const progTestRun = 10 // enum bpf_cmd
		_, _, errno := unix.Syscall(unix.SYS_BPF, progTestRun, uintptr(unsafe.Pointer(&run)), unsafe.Sizeof(run))
		if errno != 0 {
			return errno
		}
		return nil
	})
	runtime.KeepAlive(data)
	if err != nil {
		t.Fatal(err)
	}
	return int32(run.verdict)
}

// emptySpace makes a namespace, or skips the test where BPF may not be used.
func emptySpace(t *testing.T) *ns.Namespace {
	t.Helper()
	space, err := ns.New()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs CAP_SYS_ADMIN: run it with hack/test")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := try(); errors.Is(err, fs.ErrPermission) {
		t.Skip("needs BPF: run hack/test as root")
	} else if err != nil {
		t.Fatal(err)
	}
	return space
}

func TestParseDestroyed(t *testing.T) {
	if _, _, err := parseDestroyed(make([]byte, messageLength-1)); err == nil {
		t.Error("a message that is too short is understood")
	}
	info := func(options byte, rto uint32) []byte {
		value := make([]byte, infoLeast)
		value[infoOptions] = options
		binary.NativeEndian.PutUint32(value[infoRTO:], rto)
		attribute := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		return append(binary.NativeEndian.AppendUint16(attribute, 2), value...)
	}
	message := make([]byte, messageLength)
	message[0] = unix.AF_INET
	binary.BigEndian.PutUint16(message[localPort:], 80)
	binary.BigEndian.PutUint16(message[remotePort:], 40000)
	copy(message[localAddr:], []byte{10, 0, 0, 1})
	copy(message[remoteAddr:], []byte{10, 0, 0, 2})
	whose := ends{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:40000")}
	for name, c := range map[string]struct {
		message []byte
		ends    ends
		length  time.Duration
	}{
		"with timestamps":    {append(slices.Clone(message), info(optionsTimestamps|2, 204000)...), whose, 714 * time.Millisecond},
		"without timestamps": {append(slices.Clone(message), info(2, 204000)...), whose, 0},
		"without details":    {message, whose, 0},
		"IPv6":               {append([]byte{unix.AF_INET6}, message[1:]...), ends{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, length, err := parseDestroyed(c.message)
			if err != nil || got != c.ends || length != c.length {
				t.Errorf("%v, %v, %v; want %v, %v", got, length, err, c.ends, c.length)
			}
		})
	}
}
