//go:build linux

package recycle

import (
	"encoding/binary"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Numbers that the program uses: fields of struct __sk_buff and struct bpf_sock
// (include/uapi/linux/bpf.h), headers, and states of include/net/tcp_states.h.
const (
	skbProtocol = 16
	sockState   = 72
	thisNetns   = -1 // BPF_F_CURRENT_NETNS

	ethernet   = 14
	ipFragment = 6
	ipProtocol = 9
	ipSource   = 12 // and then the destination
	ipMinimum  = 20
	tcpOffset  = 12 // and then the flags
	tcpMinimum = 20

	flagFIN, flagSYN, flagRST, flagACK = 0x01, 0x02, 0x04, 0x10

	optionEnd, optionNothing, optionTimestamps = 0, 1, 8
	timestampsLength                           = 10
	optionsMost                                = 40

	stateFinWait1, stateTimeWait = 4, 6 // and FIN_WAIT2 between
	stateListen, stateClosing    = 10, 11

	// pawsWindow is TCP_PAWS_WINDOW: by how many ticks a timestamp may be older.
	pawsWindow = 1

	verdictNext, verdictDrop = -1, 2 // TCX_NEXT, TCX_DROP
)

// The program's stack. The socket tuple begins with both addresses, which are the
// key of the peer.
const (
	tuple        = -16 // struct bpf_sock_tuple: two addresses, two ports
	timestamp    = -20 // the segment's, if
	hasTimestamp = -24 // it has one
	segment      = -26 // data offset and flags
	flags        = segment + 1
	value        = -48 // a peer to be written
	header       = -72 // the IP header, or one byte of the options
)

const (
	tupleLength = 12
	keyLength   = 8
)

// peer is the record of an address, as the program writes it.
type peer struct {
	At        uint64 // bpf_ktime_get_ns
	Timestamp uint32
	_         uint32
}

const (
	peerAt        = 0
	peerTimestamp = 8
	peerLength    = 16
)

// networkOrder is a 16 bit number of a header, as the processor loads it.
func networkOrder(n uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)))
}

// program assembles the check. It keeps its values across calls of the kernel's functions
// in R6 (the packet), R7 (the read position), R8 (the end of the options) and R9.
func program(c Config, peers, drops *ebpf.Map) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "tw_recycle", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, License: "Apache-2.0",
		Instructions: join(
			segmentOf(),
			timestampOf(),
			stateOf(),
			turn(),
			remember(c.window(), peers),
			check(c, peers, drops),
			asm.Instructions{
				asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("pass"),
				asm.Return(),
			},
		),
	}
}

// segmentOf reads the headers of a TCP segment over IPv4 that is no fragment, and
// lets everything else pass.
func segmentOf() asm.Instructions {
	return join(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R0, asm.R6, skbProtocol, asm.Word),
			asm.JNE.Imm(asm.R0, networkOrder(unix.ETH_P_IP), "pass"),
			asm.Mov.Imm(asm.R7, ethernet),
		},
		load(header, 0, ipMinimum),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, header+ipProtocol, asm.Byte),
			asm.JNE.Imm(asm.R0, unix.IPPROTO_TCP, "pass"),
			asm.LoadMem(asm.R0, asm.RFP, header+ipFragment, asm.Half),
			asm.And.Imm(asm.R0, networkOrder(0x1fff)), // the offset
			asm.JNE.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R9, asm.RFP, header, asm.Byte),
			asm.And.Imm(asm.R9, 0x0f),
			asm.LSh.Imm(asm.R9, 2),
		},
		load(tuple, ipSource, keyLength),
		asm.Instructions{asm.Add.Reg(asm.R7, asm.R9)},
		load(tuple+keyLength, 0, tupleLength-keyLength),
		load(segment, tcpOffset, 2),
	)
}

// timestampOf walks the options of the segment.
func timestampOf() asm.Instructions {
	return join(
		asm.Instructions{
			asm.StoreImm(asm.RFP, timestamp, 0, asm.Word),
			asm.StoreImm(asm.RFP, hasTimestamp, 0, asm.Half),
			asm.LoadMem(asm.R0, asm.RFP, segment, asm.Byte),
			asm.RSh.Imm(asm.R0, 4),
			asm.LSh.Imm(asm.R0, 2),
			asm.Mov.Reg(asm.R8, asm.R7),
			asm.Add.Reg(asm.R8, asm.R0),
			asm.Add.Imm(asm.R7, tcpMinimum),
			asm.Mov.Imm(asm.R9, optionsMost),
			asm.JGE.Reg(asm.R7, asm.R8, "walked").WithSymbol("option"),
		},
		load(header, 0, 1),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, header, asm.Byte),
			asm.JEq.Imm(asm.R0, optionEnd, "walked"),
			asm.JNE.Imm(asm.R0, optionNothing, "long"),
			asm.Add.Imm(asm.R7, 1),
			asm.Ja.Label("next"),
			asm.Mov.Reg(asm.R0, asm.R0).WithSymbol("long"),
		},
		load(header, 0, 2),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, header, asm.Byte),
			asm.LoadMem(asm.R1, asm.RFP, header+1, asm.Byte),
			asm.JLT.Imm(asm.R1, 2, "walked"),
			asm.JNE.Imm(asm.R0, optionTimestamps, "skip"),
			asm.JNE.Imm(asm.R1, timestampsLength, "skip"),
		},
		load(timestamp, 2, 4),
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, timestamp, asm.Word),
			asm.HostTo(asm.BE, asm.R0, asm.Word),
			asm.StoreMem(asm.RFP, timestamp, asm.R0, asm.Word),
			asm.StoreImm(asm.RFP, hasTimestamp, 1, asm.Half),
			asm.Ja.Label("walked"),
			asm.Add.Reg(asm.R7, asm.R1).WithSymbol("skip"),
			asm.Sub.Imm(asm.R9, 1).WithSymbol("next"),
			asm.JNE.Imm(asm.R9, 0, "option"),
		},
	)
}

// stateOf loads into R9 the state of the host's socket that the segment is for.
func stateOf() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("walked"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, tuple),
		asm.Mov.Imm(asm.R3, tupleLength),
		asm.Mov.Imm(asm.R4, thisNetns),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkcLookupTcp.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R9, asm.R0, sockState, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.FnSkRelease.Call(),
	}
}

// turn selects the next step by the state and the flags. A SYN is checked when it reaches a
// listener, but not when it meets a TIME_WAIT. A minisocket reports TIME_WAIT even when it
// is in FIN_WAIT2.
func turn() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, flags, asm.Byte),
		asm.Mov.Reg(asm.R0, asm.R1),
		asm.And.Imm(asm.R0, flagRST),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R0, asm.R1),
		asm.And.Imm(asm.R0, flagSYN|flagACK),
		asm.JEq.Imm(asm.R0, flagSYN, "syn"),
		asm.JEq.Imm(asm.R9, stateClosing, "remember"),
		asm.And.Imm(asm.R1, flagFIN),
		asm.JEq.Imm(asm.R1, 0, "pass"),
		asm.JLT.Imm(asm.R9, stateFinWait1, "pass"),
		asm.JGT.Imm(asm.R9, stateTimeWait, "pass"),
		asm.Ja.Label("remember"),
		asm.JEq.Imm(asm.R9, stateListen, "check").WithSymbol("syn"),
		asm.Ja.Label("pass"),
	}
}

// remember stores the peer, unless a newer timestamp of this peer is stored
// (tcp_remember_stamp).
func remember(window time.Duration, peers *ebpf.Map) asm.Instructions {
	return join(
		asm.Instructions{
			asm.LoadMem(asm.R0, asm.RFP, hasTimestamp, asm.Half).WithSymbol("remember"),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.FnKtimeGetNs.Call(),
			asm.StoreMem(asm.RFP, value+peerAt, asm.R0, asm.DWord),
		},
		find(peers, "write"),
		fresh(window, "write"),
		asm.Instructions{
			asm.JSGT.Imm32(asm.R1, 0, "pass"),
			asm.LoadMem(asm.R0, asm.RFP, timestamp, asm.Word).WithSymbol("write"),
			asm.StoreMem(asm.RFP, value+peerTimestamp, asm.R0, asm.Word),
			asm.StoreImm(asm.RFP, value+peerTimestamp+4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, peers.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, tuple),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, value),
			asm.Mov.Imm(asm.R4, 0), // BPF_ANY
			asm.FnMapUpdateElem.Call(),
			asm.Ja.Label("pass"),
		},
	)
}

// check drops a SYN whose timestamp is older than the stored one of its peer.
func check(c Config, peers, drops *ebpf.Map) asm.Instructions {
	without := "pass"
	if c.Strict {
		without = "drop"
	}
	return join(
		asm.Instructions{
			asm.FnKtimeGetNs.Call().WithSymbol("check"),
			asm.StoreMem(asm.RFP, value+peerAt, asm.R0, asm.DWord),
		},
		find(peers, "pass"),
		fresh(c.window(), "pass"),
		asm.Instructions{
			asm.LoadMem(asm.R2, asm.RFP, hasTimestamp, asm.Half),
			asm.JEq.Imm(asm.R2, 0, without),
			asm.JSGT.Imm32(asm.R1, pawsWindow, "drop"),
			asm.Ja.Label("pass"),
			asm.StoreImm(asm.RFP, header, 0, asm.Word).WithSymbol("drop"),
			asm.LoadMapPtr(asm.R1, drops.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, header),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"), // for the verifier: an array has its elements
			asm.Mov.Imm(asm.R1, 1),
			asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
			asm.Mov.Imm(asm.R0, verdictDrop),
			asm.Return(),
		},
	)
}

// find loads into R0 the address of the peer's record.
func find(peers *ebpf.Map, none string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, peers.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, tuple),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, none),
	}
}

// fresh loads into R1 by how many ticks the segment is older than the record that R0 points
// to. It jumps to stale when the record was written longer ago than the window. The current
// time is at value+peerAt.
func fresh(window time.Duration, stale string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, value+peerAt, asm.DWord),
		asm.LoadMem(asm.R2, asm.R0, peerAt, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.LoadImm(asm.R2, int64(window), asm.DWord),
		asm.JGE.Reg(asm.R1, asm.R2, stale),
		asm.LoadMem(asm.R1, asm.R0, peerTimestamp, asm.Word),
		asm.LoadMem(asm.R2, asm.RFP, timestamp, asm.Word),
		asm.Sub.Reg32(asm.R1, asm.R2),
	}
}

// load reads bytes of the packet to the stack, from R7+plus on. A packet without them
// passes.
func load(to int16, plus, length int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, plus),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, length),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
	}
}

func join(parts ...asm.Instructions) asm.Instructions {
	var all asm.Instructions
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
