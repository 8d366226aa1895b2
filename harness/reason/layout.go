//go:build linux

package reason

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// layout is where the running kernel keeps what the programs read: offsets in bytes, and
// positions among a tracepoint's arguments.
type layout struct {
	skbDev, skbSock, skbDst, skbHead, skbNetwork int32
	deviceNet, dstDevice, sockNet, netInode      int32
	family, state, localPort, remotePort         int32
	local4, remote4, local6, remote6             int32

	drop, reset arguments
	// drops and resets are the names of the reasons.
	drops, resets map[uint32]string
}

// arguments are the positions of a tracepoint's arguments; -1 for one that it does not have.
type arguments struct{ skb, place, reason, sock int16 }

// readLayout reads it from the kernel's type information.
func readLayout() (l layout, err error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return l, fmt.Errorf("read the kernel's type information: %w", err)
	}
	for _, f := range []struct {
		to   *int32
		path string
	}{
		{&l.skbDev, "sk_buff.dev"}, {&l.skbSock, "sk_buff.sk"}, {&l.skbDst, "sk_buff._skb_refdst"}, {&l.skbHead, "sk_buff.head"},
		{&l.skbNetwork, "sk_buff.network_header"},
		{&l.deviceNet, "net_device.nd_net.net"}, {&l.dstDevice, "dst_entry.dev"},
		{&l.sockNet, "sock.__sk_common.skc_net.net"}, {&l.netInode, "net.ns.inum"},
		{&l.family, "sock.__sk_common.skc_family"}, {&l.state, "sock.__sk_common.skc_state"},
		{&l.localPort, "inet_sock.inet_sport"}, {&l.remotePort, "sock.__sk_common.skc_dport"},
		{&l.local4, "sock.__sk_common.skc_rcv_saddr"}, {&l.remote4, "sock.__sk_common.skc_daddr"},
		{&l.local6, "sock.__sk_common.skc_v6_rcv_saddr"}, {&l.remote6, "sock.__sk_common.skc_v6_daddr"},
	} {
		if *f.to, err = offset(kernel, f.path); err != nil && !strings.Contains(f.path, "skc_v6") { // a kernel without IPv6
			return l, err
		}
	}
	if l.drop, l.drops, err = tracepoint(kernel, "kfree_skb", "skb_drop_reason", "SKB_DROP_REASON_"); err != nil {
		return l, err
	}
	if l.drop.reason < 0 {
		return l, errors.New("tracepoint skb:kfree_skb of this kernel has no reason (Linux 5.17 brought it)")
	}
	l.reset, l.resets, err = tracepoint(kernel, "tcp_send_reset", "sk_rst_reason", "SK_RST_REASON_")
	return l, err
}

// offset finds a member by its path, through structures and unions without a name.
func offset(kernel *btf.Spec, path string) (int32, error) {
	names := strings.Split(path, ".")
	var first *btf.Struct
	if err := kernel.TypeByName(names[0], &first); err != nil {
		return 0, fmt.Errorf("find %s in the kernel's type information: %w", names[0], err)
	}
	var at uint32
	var within btf.Type = first
	for _, name := range names[1:] {
		bytes, of, found := member(within, name)
		if !found {
			return 0, fmt.Errorf("find %s in the kernel's type information: no member %s", path, name)
		}
		at, within = at+bytes, of
	}
	return int32(at), nil
}

// member finds a member of a structure or union.
func member(t btf.Type, name string) (at uint32, of btf.Type, found bool) {
	var all []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		all = t.Members
	case *btf.Union:
		all = t.Members
	}
	for _, m := range all {
		if m.Name == name {
			return m.Offset.Bytes(), m.Type, true
		}
		if m.Name != "" {
			continue
		}
		if inner, of, found := member(m.Type, name); found {
			return m.Offset.Bytes() + inner, of, true
		}
	}
	return 0, nil, false
}

// tracepoint finds the positions of a tracepoint's arguments by their types, and the names of
// its reasons.
func tracepoint(kernel *btf.Spec, name, reasons, prefix string) (a arguments, names map[uint32]string, err error) {
	a = arguments{-1, -1, -1, -1}
	var declared *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &declared); err != nil {
		return a, nil, fmt.Errorf("find the tracepoint %s in the kernel's type information: %w", name, err)
	}
	pointer, _ := declared.Type.(*btf.Pointer)
	if pointer == nil {
		return a, nil, fmt.Errorf("tracepoint %s: %v is no pointer", name, declared.Type)
	}
	function, _ := pointer.Target.(*btf.FuncProto)
	if function == nil || len(function.Params) == 0 {
		return a, nil, fmt.Errorf("tracepoint %s: %v is no function with arguments", name, pointer.Target)
	}
	for i, p := range function.Params[1:] { // the first is the program's own
		at := int16(i)
		switch t := btf.UnderlyingType(p.Type).(type) {
		case *btf.Enum:
			a.reason = at
		case *btf.Pointer:
			switch to := btf.UnderlyingType(t.Target).(type) {
			case *btf.Void:
				a.place = at
			case *btf.Struct:
				switch to.Name {
				case "sk_buff":
					a.skb = at
				case "sock":
					a.sock = at
				}
			}
		}
	}
	if a.skb < 0 {
		return a, nil, fmt.Errorf("tracepoint %s: no packet among its arguments", name)
	}
	if a.reason < 0 {
		return a, nil, nil
	}
	var list *btf.Enum
	if err := kernel.TypeByName(reasons, &list); err != nil {
		return a, nil, fmt.Errorf("find %s in the kernel's type information: %w", reasons, err)
	}
	names = make(map[uint32]string, len(list.Values))
	for _, v := range list.Values {
		names[uint32(v.Value)] = strings.TrimPrefix(v.Name, prefix)
	}
	return a, names, nil
}
