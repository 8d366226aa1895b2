package observe

import (
	"maps"
	"strings"
	"testing"

	"twlab/harness/kernel"
)

func TestParseCounters(t *testing.T) {
	const text = "Tcp: RtoMin MaxConn ActiveOpens\nTcp: 200 -1 12\nTcpExt: TW PAWSTimewait\nTcpExt: 3 18446744073709551615\n"
	got := kernel.Counters{}
	if err := parseCounters(got, text, "snmp"); err != nil {
		t.Fatal(err)
	}
	want := kernel.Counters{"Tcp.RtoMin": 200, "Tcp.ActiveOpens": 12, "TcpExt.TW": 3, "TcpExt.PAWSTimewait": 1<<64 - 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseCountersRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"names alone":         {"Tcp: A B\nTcp: 1 2\nUdp: A\n", "snmp: line 3: names without a line of values"},
		"fewer values":        {"Tcp: A B\nTcp: 1\n", "snmp: line 2: 1 values"},
		"more values":         {"Tcp: A\nTcp: 1 2\n", "snmp: line 2: 2 values"},
		"another group":       {"Tcp: A\nUdp: 1\n", `snmp: line 2: 1 values of "Udp"`},
		"no group":            {"A B\nTcp: 1 2\n", "snmp: line 1: no group name"},
		"not a number":        {"Tcp: A\nTcp: 1\nUdp: A B\nUdp: 1 x\n", "snmp: line 4: value of Udp.B"},
		"empty":               {"", "snmp: line 1"},
		"cut within a number": {"Tcp: A B\nTcp: 1 ", "snmp: line 2: 1 values"},
	} {
		t.Run(name, func(t *testing.T) {
			err := parseCounters(kernel.Counters{}, c.text, "snmp")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestCountersDifference(t *testing.T) {
	before := kernel.Counters{"TcpExt.TW": 1, "Conntrack.drop": 2, "Tcp.CurrEstab": 3, "gone": 1, "Tcp.InSegs": 5}
	after := kernel.Counters{"TcpExt.TW": 2, "Conntrack.drop": 5, "Tcp.CurrEstab": 1, "new": 1, "Tcp.InSegs": 5}
	diff := after.Sub(before)
	if want := (kernel.Counters{"TcpExt.TW": 1, "Conntrack.drop": 3, "Tcp.InSegs": 0}); !maps.Equal(diff, want) {
		t.Errorf("Sub: got %v, want %v", diff, want)
	}
	if got, want := diff.Moved().String(), "Conntrack.drop +3 TcpExt.TW +1"; got != want {
		t.Errorf("Moved: got %q, want %q", got, want)
	}
	if got, want := diff.String(), "Conntrack.drop +3 Tcp.InSegs +0 TcpExt.TW +1"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
}

func TestParseIPv6Counters(t *testing.T) {
	const text = "Ip6InReceives                   \t4\nIp6OutNoRoutes                  \t0\nIcmp6OutType133 \t2\nUdpLite6InErrors \t1\n"
	got := kernel.Counters{}
	if err := parseIPv6Counters(got, text, "snmp6"); err != nil {
		t.Fatal(err)
	}
	want := kernel.Counters{"Ip6.InReceives": 4, "Ip6.OutNoRoutes": 0, "Icmp6.OutType133": 2, "UdpLite6.InErrors": 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for text, want := range map[string]string{
		"":                       "line 1: 0 words",
		"Ip6InReceives 1\nIp6Ou": "line 2: 1 words",
		"IpInReceives 1\n":       "no group with a 6",
		"Ip6InReceives -1\n":     "value of Ip6InReceives",
	} {
		if err := parseIPv6Counters(kernel.Counters{}, text, "snmp6"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}
