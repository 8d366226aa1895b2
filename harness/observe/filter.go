//go:build linux

package observe

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// mostExtensions is how many IPv6 extension headers may stand before TCP in a packet that a
// tap records. A filter program has no loops, so each of them is written out.
const mostExtensions = 4

// The number of instructions of the parts of the filter, which jumps need.
const (
	filterStart     = 10
	filterExtension = 15
	filterReject    = filterStart + (mostExtensions+1)*filterExtension
	filterAccept    = filterReject + 1
)

// tcpFilter accepts the first snapLength octets of frames with a TCP header over IPv4 or
// IPv6. Only the first fragment of a packet has one.
func tcpFilter() []bpf.Instruction {
	// to returns how far it is from one instruction to another.
	to := func(from, target int) uint8 { return uint8(target - from - 1) }
	program := []bpf.Instruction{
		0: bpf.LoadAbsolute{Off: 12, Size: 2}, // EtherType
		1: bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: to(1, 8)},
		2: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: to(2, filterReject)},
		3: bpf.LoadAbsolute{Off: ethernetHeader + 9, Size: 1}, // protocol
		4: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: to(4, filterReject)},
		5: bpf.LoadAbsolute{Off: ethernetHeader + 6, Size: 2}, // flags and fragment offset
		6: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: to(6, filterReject)},
		7: bpf.Jump{Skip: uint32(to(7, filterAccept))},
		// IPv6: the register X is where the next header begins, A is its type.
		8: bpf.LoadConstant{Dst: bpf.RegX, Val: ethernetHeader + ipv6Header},
		9: bpf.LoadAbsolute{Off: ethernetHeader + 6, Size: 1},
	}
	for range mostExtensions + 1 {
		at := len(program)
		const fragment, size = 5, 7 // of the instructions below
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipTrue: to(at, filterAccept)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_FRAGMENT, SkipTrue: to(1, fragment)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_HOPOPTS, SkipTrue: to(2, size)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ROUTING, SkipTrue: to(3, size)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_DSTOPTS, SkipTrue: to(4, size), SkipFalse: to(at+4, filterReject)},
			bpf.LoadIndirect{Off: 2, Size: 2}, // fragment offset
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0xfff8, SkipTrue: to(at+6, filterReject)},
			bpf.LoadIndirect{Off: 0, Size: 1}, // type of the header after this one
			bpf.StoreScratch{Src: bpf.RegA},
			bpf.LoadIndirect{Off: 1, Size: 1}, // length in units of 8 octets, less one; 0 in a fragment header
			bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
			bpf.LoadScratch{Dst: bpf.RegA},
		)
	}
	return append(program, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: snapLength})
}

// attach makes the program the filter of a socket.
func attach(fd int, program []bpf.Instruction) error {
	assembled, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(assembled))
	for i, in := range assembled {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}
