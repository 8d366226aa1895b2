package foreign

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	nstatText = "#kernel\nIpInReceives                    12                 0.0\nTcpExtListenOverflows           3                  0.0\nIp6InNoRoutes 1 0.0\nMPTcpExtBlackhole 2 0.0\n"
	nstatJSON = `{"kernel":{"IpInReceives":12,"TcpExtListenOverflows":3,"Ip6InNoRoutes":1,"MPTcpExtBlackhole":2}}`
	statText  = "cpu=0   \tfound=0 invalid=1 insert_failed=2 drop=2\ncpu=1   \tfound=0 invalid=0 insert_failed=3 drop=3\n"
)

func TestTables(t *testing.T) {
	const want = "map[Ip.InReceives:12 Ip6.InNoRoutes:1 MPTcpExt.Blackhole:2 TcpExt.ListenOverflows:3]"
	for _, text := range []string{nstatText, nstatJSON} {
		if got, err := ReadNstat(strings.NewReader(text)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	got, err := ReadConntrack(strings.NewReader(statText))
	if want := "map[Conntrack.drop:5 Conntrack.found:0 Conntrack.insert_failed:5 Conntrack.invalid:1]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	for _, text := range []string{"", "hello", "\x1b[31m", "\xff\xfe", "{", `{"kernel":[]}`, "tcp 6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2", strings.Repeat("a", mostTable+1)} {
		if got, err := ReadNstat(strings.NewReader(text)); !errors.Is(err, ErrNoCounters) {
			t.Errorf("nstat %.20q: %v, %v", text, got, err)
		}
		if got, err := ReadConntrack(strings.NewReader(text)); !errors.Is(err, ErrNoCounters) {
			t.Errorf("conntrack %.20q: %v, %v", text, got, err)
		}
	}
}

// Whatever stands in a table, names are names.
func FuzzTables(f *testing.F) {
	for _, text := range []string{nstatText, nstatJSON, statText, "cpu=0 =1 a=2", "TcpExt 5", "Tcp\x1bX 5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func() (map[string]uint64, error){
			func() (map[string]uint64, error) { return ReadNstat(strings.NewReader(text)) },
			func() (map[string]uint64, error) { return ReadConntrack(strings.NewReader(text)) },
		} {
			all, err := read()
			if err != nil && !errors.Is(err, ErrNoCounters) {
				t.Error(err)
			}
			for name := range all {
				if strings.ContainsFunc(name, func(r rune) bool { return r < '.' || r > 'z' }) {
					t.Errorf("%q", name)
				}
			}
		}
	})
}
