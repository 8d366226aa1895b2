//go:build linux

package observe

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const nested = int(nl.NLA_F_NESTED)

// tupleAttribute makes CTA_TUPLE_ORIG or CTA_TUPLE_REPLY as the kernel sends it
// for an entry with a zone of one direction: an attribute more than usual.
func tupleAttribute(kind int, src, dst netip.AddrPort, protocol uint8) *nl.RtAttr {
	tuple := nl.NewRtAttr(kind|nested, nil)
	ip := tuple.AddRtAttr(nl.CTA_TUPLE_IP|nested, nil)
	ip.AddRtAttr(nl.CTA_IP_V4_SRC, src.Addr().AsSlice())
	ip.AddRtAttr(nl.CTA_IP_V4_DST, dst.Addr().AsSlice())
	tuple.AddRtAttr(3, []byte{0, 7}) // CTA_TUPLE_ZONE
	proto := tuple.AddRtAttr(nl.CTA_TUPLE_PROTO|nested, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{protocol})
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(src.Port()))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(dst.Port()))
	return tuple
}

func message(attributes ...*nl.RtAttr) []byte {
	data := []byte{unix.AF_INET, 0, 0, 0}
	for _, a := range attributes {
		data = append(data, a.Serialize()...)
	}
	return data
}

func TestParseEntry(t *testing.T) {
	info := nl.NewRtAttr(nl.CTA_PROTOINFO|nested, nil)
	tcp := info.AddRtAttr(nl.CTA_PROTOINFO_TCP|nested, nil)
	tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_STATE, []byte{7})
	tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, []byte{10})

	got, ok, err := parseEntry(message(
		tupleAttribute(nl.CTA_TUPLE_ORIG, private, endpoint, unix.IPPROTO_TCP),
		tupleAttribute(nl.CTA_TUPLE_REPLY, endpoint, public, unix.IPPROTO_TCP),
		nl.NewRtAttr(nl.CTA_STATUS, nl.BEUint32Attr(1<<1|1<<3)),
		nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(119)),
		info,
		nl.NewRtAttr(nl.CTA_ID, []byte{1, 2, 3, 4}),
		nl.NewRtAttr(nl.CTA_USE, nl.BEUint32Attr(1)),
	))
	if err != nil || !ok {
		t.Fatalf("got %v, %v", ok, err)
	}
	want := Flow{Original: Tuple{private, endpoint}, Reply: Tuple{endpoint, public}, State: "TIME_WAIT", Expires: 119 * time.Second, SeenReply: true}
	if got.flow != want {
		t.Errorf("got  %+v\nwant %+v", got.flow, want)
	}
	if got, want := got.flow.String(), "TIME_WAIT 10.0.0.2:40001 > 10.20.0.3:80 as 10.20.0.1:40001 1m59s"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
	var kinds []uint16
	for _, a := range got.identity {
		kinds = append(kinds, a.kind)
	}
	if !slices.Equal(kinds, []uint16{nl.CTA_TUPLE_ORIG, nl.CTA_ID}) {
		t.Errorf("identity: got attributes %v, want the original tuple and the id", kinds)
	}

	_, ok, err = parseEntry(message(tupleAttribute(nl.CTA_TUPLE_ORIG, private, endpoint, unix.IPPROTO_UDP)))
	if ok || err != nil {
		t.Errorf("UDP: got %v, %v, want to be told that it is not TCP", ok, err)
	}
}

func TestParseEntryRefuses(t *testing.T) {
	whole := message(tupleAttribute(nl.CTA_TUPLE_ORIG, private, endpoint, unix.IPPROTO_TCP))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no header":     {whole[:3], "3 bytes, want 4"},
		"truncated":     {whole[:len(whole)-4], "split netlink attributes"},
		"short timeout": {message(nl.NewRtAttr(nl.CTA_TIMEOUT, []byte{0, 1})), "2 bytes, want 4"},
	} {
		if _, _, err := parseEntry(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestFlowMatch(t *testing.T) {
	flow := Flow{Original: Tuple{private, endpoint}, Reply: Tuple{endpoint, public}}
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		match FlowMatch
		want  bool
	}{
		"everything":       {FlowMatch{}, true},
		"source port":      {FlowMatch{Original: Tuple{Src: at("0.0.0.0:40001")}}, true},
		"other port":       {FlowMatch{Original: Tuple{Src: at("0.0.0.0:40002")}}, false},
		"source address":   {FlowMatch{Original: Tuple{Src: at("10.0.0.2:0")}}, true},
		"destination":      {FlowMatch{Original: Tuple{Dst: endpoint}}, true},
		"as translated":    {FlowMatch{Reply: Tuple{Dst: public}}, true},
		"reply's source":   {FlowMatch{Reply: Tuple{Src: at("10.20.0.4:80")}}, false},
		"one of two wrong": {FlowMatch{Original: Tuple{Src: private}, Reply: Tuple{Dst: private}}, false},
	} {
		if got := c.match.Matches(flow); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// A dump that the kernel interrupts is made again, but not for ever.
func TestDumpRetries(t *testing.T) {
	tries := 0
	list, err := dump(func() ([]int, error) {
		if tries++; tries < dumpTries {
			return []int{-1}, nl.ErrDumpInterrupted
		}
		return []int{1}, nil
	})
	if err != nil || !slices.Equal(list, []int{1}) {
		t.Errorf("got %v, %v, want the list that was not interrupted", list, err)
	}
	tries = 0
	_, err = dump(func() ([]int, error) { tries++; return nil, nl.ErrDumpInterrupted })
	if err == nil || tries != dumpTries {
		t.Errorf("always interrupted: got %v after %d tries, want an error after %d", err, tries, dumpTries)
	}
}
