//go:build linux

package reason

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The record that the programs write, on their stack, and a place to read a pointer to.
const (
	recordSize = 176
	record     = -recordSize
	scratch    = record - 8

	recordTime     = 0  // bpf_ktime_get_ns
	recordPlace    = 8  // an address
	recordNetns    = 16 // its inode
	recordReason   = 20
	recordKind     = 24
	recordFamily   = 32
	recordLocal    = 36 // a port, in network order
	recordRemote   = 38
	recordHeaders  = 40 // or two addresses of a socket, 16 bytes each
	recordedHeader = 60 // IPv4 or IPv6, and TCP, without options
	recordFunction = 112
	functionLength = 64 // of its name, offset and module

	// functionFormat prints an address to which a call returns as the function that called.
	functionFormat = "%pB\x00"
)

// Kinds of records.
const (
	kindDrop = iota + 1
	kindReset
	kindUnasked
)

const ipv6 = 10 // AF_INET6

// assembler writes one program. R6 is the tracepoint's arguments, R7 the packet, R8 a socket
// or what the namespace is found by.
type assembler struct {
	layout
	arguments
	nodes, events, lost, format *ebpf.Map
	named                       *ebpf.Map // the places whose name was written
	code                        asm.Instructions
}

func (a *assembler) add(code ...asm.Instruction) { a.code = append(a.code, code...) }

// label names the next instruction, which does nothing.
func (a *assembler) label(name string) { a.add(asm.Mov.Reg(asm.R6, asm.R6).WithSymbol(name)) }

// read copies bytes of the kernel's memory to the stack. What cannot be read is zeros.
func (a *assembler) read(to int32, size int32, from asm.Register, offset int32) {
	a.add(
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Reg(asm.R3, from), asm.Add.Imm(asm.R3, offset),
		asm.FnProbeReadKernel.Call(),
	)
}

// pointer reads a pointer of the kernel's memory into R8.
func (a *assembler) pointer(from asm.Register, offset int32) {
	a.read(scratch, 8, from, offset)
	a.add(asm.LoadMem(asm.R8, asm.RFP, scratch, asm.DWord))
}

// set writes a constant into the record.
func (a *assembler) set(at int16, value int64, size asm.Size) {
	a.add(asm.StoreImm(asm.RFP, record+at, value, size))
}

// begin zeroes the record, which the verifier wants, and takes the arguments.
func (a *assembler) begin(kind int64) {
	a.add(asm.Mov.Reg(asm.R6, asm.R1))
	a.add(asm.Mov.Imm(asm.R0, 0))
	for at := int16(scratch); at < 0; at += 8 {
		a.add(asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord))
	}
	a.set(recordKind, kind, asm.Word)
	a.add(asm.LoadMem(asm.R7, asm.R6, 8*a.skb, asm.DWord))
	if a.reason >= 0 {
		a.add(asm.LoadMem(asm.R0, asm.R6, 8*a.reason, asm.DWord), asm.StoreMem(asm.RFP, record+recordReason, asm.R0, asm.Word))
	}
	if a.place >= 0 {
		a.add(asm.LoadMem(asm.R0, asm.R6, 8*a.place, asm.DWord), asm.StoreMem(asm.RFP, record+recordPlace, asm.R0, asm.DWord))
	}
}

// namespace goes on to filter with the network namespace of R8, a socket or device.
func (a *assembler) namespace(net int32) {
	a.pointer(asm.R8, net)
	a.add(asm.Ja.Label("net"))
}

// filter ends the program unless the namespace that R8 points to is a node's.
func (a *assembler) filter() {
	a.label("net")
	a.read(record+recordNetns, 4, asm.R8, a.netInode)
	a.add(
		asm.LoadMapPtr(asm.R1, a.nodes.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, record+recordNetns),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
	)
}

// ofPacket points R8 to the namespace of the packet: its device's, else the receiving
// socket's, else its own socket's, else its route's device's. In a third of all drops the
// device is not set any more (tcp_v4_fill_cb) or not yet (the OUTPUT hook).
func (a *assembler) ofPacket() {
	a.pointer(asm.R7, a.skbDev)
	a.add(asm.JEq.Imm(asm.R8, 0, "no device"))
	a.namespace(a.deviceNet)
	a.label("no device")
	if a.sock >= 0 {
		a.add(asm.LoadMem(asm.R8, asm.R6, 8*a.sock, asm.DWord), asm.JEq.Imm(asm.R8, 0, "no receiver"))
		a.namespace(a.sockNet)
		a.label("no receiver")
	}
	a.pointer(asm.R7, a.skbSock)
	a.add(asm.JEq.Imm(asm.R8, 0, "no socket"))
	a.namespace(a.sockNet)
	a.label("no socket")
	a.pointer(asm.R7, a.skbDst)
	a.add(asm.And.Imm(asm.R8, ^1), asm.JEq.Imm(asm.R8, 0, "exit")) // SKB_DST_NOREF
	a.pointer(asm.R8, a.dstDevice)
	a.add(asm.JEq.Imm(asm.R8, 0, "exit"))
	a.namespace(a.deviceNet)
}

// headers copies the headers of the packet.
func (a *assembler) headers() {
	a.pointer(asm.R7, a.skbHead)
	a.add(asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.RFP, scratch, asm.R0, asm.DWord))
	a.read(scratch, 2, asm.R7, a.skbNetwork)
	a.add(asm.LoadMem(asm.R0, asm.RFP, scratch, asm.Half), asm.Add.Reg(asm.R8, asm.R0))
	a.read(record+recordHeaders, recordedHeader, asm.R8, 0)
}

// ofSocket copies the ends of the socket in R8.
func (a *assembler) ofSocket() {
	a.add(asm.Mov.Reg(asm.R9, asm.R8))
	a.read(record+recordFamily, 2, asm.R9, a.family)
	a.read(record+recordLocal, 2, asm.R9, a.localPort)
	a.read(record+recordRemote, 2, asm.R9, a.remotePort)
	a.add(asm.LoadMem(asm.R0, asm.RFP, record+recordFamily, asm.Half), asm.JEq.Imm(asm.R0, ipv6, "IPv6"))
	a.read(record+recordHeaders, 4, asm.R9, a.local4)
	a.read(record+recordHeaders+16, 4, asm.R9, a.remote4)
	a.add(asm.Ja.Label("write"))
	a.label("IPv6")
	a.read(record+recordHeaders, 16, asm.R9, a.local6)
	a.read(record+recordHeaders+16, 16, asm.R9, a.remote6)
}

// function writes the name of the function in which the packet was dropped, the first time that
// it drops one: to find a name takes longer than all else. Only the kernel may: in a sandbox
// addresses of symbols are hidden.
func (a *assembler) function() {
	a.add(
		asm.LoadMapPtr(asm.R1, a.named.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, record+recordPlace),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "write"),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, record+recordFunction),
		asm.Mov.Imm(asm.R2, functionLength),
		asm.LoadMapValue(asm.R3, a.format.FD(), 0),
		asm.Mov.Reg(asm.R4, asm.RFP), asm.Add.Imm(asm.R4, record+recordPlace),
		asm.Mov.Imm(asm.R5, 8),
		asm.FnSnprintf.Call(),
	)
}

// noteName notes that a record with the name of a place was written: others may do without.
func (a *assembler) noteName() {
	a.add(
		asm.LoadMem(asm.R0, asm.RFP, record+recordFunction, asm.Byte),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.LoadMapPtr(asm.R1, a.named.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, record+recordPlace),
		asm.Mov.Reg(asm.R3, asm.R2), // any value
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Ja.Label("exit"),
	)
}

// end writes the record. A record that has no room is counted.
func (a *assembler) end() {
	a.label("write")
	a.add(asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.RFP, record+recordTime, asm.R0, asm.DWord))
	a.add(
		asm.LoadMapPtr(asm.R1, a.events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, record),
		asm.Mov.Imm(asm.R3, recordSize), asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.JEq.Imm(asm.R0, 0, "written"),
		asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.RFP, scratch, asm.R0, asm.DWord),
		asm.LoadMapPtr(asm.R1, a.lost.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, scratch),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Ja.Label("exit"),
	)
	a.label("written")
	a.noteName()
	a.add(asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"), asm.Return())
}

// dropProgram runs at skb:kfree_skb.
func (a assembler) dropProgram() *ebpf.ProgramSpec {
	a.arguments = a.drop
	a.begin(kindDrop)
	a.ofPacket()
	a.filter()
	a.headers()
	a.function()
	a.end()
	return a.program("drops")
}

// resetProgram runs at tcp:tcp_send_reset. Without a packet the socket sends it unasked.
func (a assembler) resetProgram() *ebpf.ProgramSpec {
	a.arguments = a.reset
	a.begin(kindReset)
	a.add(asm.JEq.Imm(asm.R7, 0, "unasked"))
	a.ofPacket()
	a.label("unasked")
	a.set(recordKind, kindUnasked, asm.Word)
	a.add(asm.LoadMem(asm.R8, asm.R6, 8*a.sock, asm.DWord), asm.JEq.Imm(asm.R8, 0, "exit"))
	a.namespace(a.sockNet)
	a.filter()
	a.add(asm.JEq.Imm(asm.R7, 0, "socket"))
	a.headers()
	a.add(asm.Ja.Label("write"))
	a.label("socket")
	a.add(asm.LoadMem(asm.R8, asm.R6, 8*a.sock, asm.DWord))
	a.ofSocket()
	a.end()
	return a.program("resets")
}

// program is the program as it is loaded. The helpers that read the kernel's memory are for
// programs whose license is compatible with the kernel's.
func (a assembler) program(name string) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: name, Type: ebpf.RawTracepoint, License: "Dual MIT/GPL", Instructions: slices.Clone(a.code),
	}
}
