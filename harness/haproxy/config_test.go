//go:build linux

package haproxy_test

import (
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"twlab/harness/haproxy"
)

// samples are values for the fields whose type does not say what they may be.
var samples = map[string][]reflect.Value{
	"Mode":          values(haproxy.HTTP),
	"Bind":          values(netip.MustParseAddrPort("[::]:81")),
	"Stack":         values(haproxy.DualStack, haproxy.IPv6Only),
	"Servers":       values([]netip.AddrPort{server, listener}),
	"Connections":   values(haproxy.KeepAlive, haproxy.ServerClose, haproxy.CloseBoth),
	"Reuse":         values(haproxy.ReuseNever, haproxy.ReuseSafe, haproxy.ReuseAggressive, haproxy.ReuseAlways),
	"Source.Addr":   values(server.Addr()),
	"Source.First":  values(uint16(1024)),
	"Source.Last":   values(uint16(2047)),
	"Takeover":      values(haproxy.Rebind, haproxy.MasterWorker),
	"FrontendLines": values([]string{"option dontlog-normal"}),
	"BackendLines":  values([]string{"option abortonclose"}),
}

func values[T any](all ...T) (some []reflect.Value) {
	for _, v := range all {
		some = append(some, reflect.ValueOf(v))
	}
	return some
}

// A setting is a field of Config, or of a struct in it, and what it may be.
type setting struct {
	name   string
	index  []int
	values []reflect.Value
}

// settings lists the fields of a struct, whatever they are. A field for whose type
// there is no value that goes without saying must have samples.
func settings(t *testing.T, of reflect.Type, prefix string, index []int) (all []setting) {
	t.Helper()
	for f := range of.Fields() {
		s := setting{name: prefix + f.Name, index: append(index[:len(index):len(index)], f.Index...)}
		s.values = samples[s.name]
		switch {
		case s.values != nil:
		case f.Type == reflect.TypeFor[time.Duration]():
			s.values = values(time.Second)
		case f.Type.Kind() == reflect.Int:
			s.values = values(2)
		case f.Type.Kind() == reflect.Bool:
			s.values = values(true)
		case f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == of.PkgPath():
			all = append(all, settings(t, f.Type, s.name+".", s.index)...)
			continue
		default:
			t.Errorf("haproxy.Config.%s is a %v: give it samples here", s.name, f.Type)
			continue
		}
		all = append(all, s)
	}
	return all
}

// Everything that Config can say comes to HAProxy, and the one that is installed
// understands it.
func TestUnderstandsEveryField(t *testing.T) {
	all := settings(t, reflect.TypeFor[haproxy.Config](), "", nil)
	if len(all) < 15 {
		t.Fatalf("%d fields: %v", len(all), all)
	}
	var full haproxy.Config
	most := 0
	for _, s := range all {
		reflect.ValueOf(&full).Elem().FieldByIndex(s.index).Set(s.values[0])
		most = max(most, len(s.values))
	}
	text := func(c haproxy.Config) string {
		written, err := c.Text()
		noError(t, err)
		return written
	}
	for _, s := range all {
		without := full
		reflect.ValueOf(&without).Elem().FieldByIndex(s.index).SetZero()
		if text(without) == text(full) {
			t.Errorf("HAProxy is not told %s", s.name)
		}
	}
	for _, s := range all {
		if _, timed := s.values[0].Interface().(time.Duration); !timed {
			continue
		}
		negative := full
		reflect.ValueOf(&negative).Elem().FieldByIndex(s.index).SetInt(-int64(time.Second))
		if err := negative.Validate(); err == nil {
			t.Errorf("Validate takes %s of -1s", s.name)
		}
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("needs haproxy: run hack/bootstrap")
	}
	for i := range most {
		for _, s := range all {
			reflect.ValueOf(&full).Elem().FieldByIndex(s.index).Set(s.values[i%len(s.values)])
		}
		if err := haproxy.Check(t.Context(), full); err != nil {
			t.Errorf("%+v:\n%v", full, err)
		}
	}
}

// Addresses are written as HAProxy reads them, and those that it would read as something
// else are refused.
func TestAddressesOfBothVersions(t *testing.T) {
	at := netip.MustParseAddrPort
	text, err := haproxy.Config{
		Bind: at("[fd00::1]:81"), Servers: []netip.AddrPort{at("[fd00::9]:8080")},
		Source: haproxy.Source{Addr: netip.MustParseAddr("fd00::7"), First: 5000, Last: 5001},
	}.Text()
	noError(t, err)
	for _, want := range []string{"\tbind [fd00::1]:81\n", "\tserver server0 [fd00::9]:8080 source [fd00::7]:5000-5001\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got, want := (haproxy.Config{Source: haproxy.Source{Addr: netip.MustParseAddr("fd00::7")}}).SourceAddress(), "[fd00::7]"; got != want {
		t.Errorf("source: got %q, want %q", got, want)
	}
	for want, change := range map[string]func(*haproxy.Config){
		"source fd00::7 and server 127.0.0.1:8080": func(c *haproxy.Config) { c.Source.Addr = netip.MustParseAddr("fd00::7") },
		"source 10.0.0.1 and server [fd00::9]:80": func(c *haproxy.Config) {
			c.Source.Addr = netip.MustParseAddr("10.0.0.1")
			c.Servers[0] = at("[fd00::9]:80")
		},
		"stack v4v6 needs Bind at [::]":   func(c *haproxy.Config) { c.Stack = haproxy.DualStack },
		"stack v6only needs Bind at [::]": func(c *haproxy.Config) { c.Stack = haproxy.IPv6Only; c.Bind = at("[fd00::1]:80") },
		`unknown stack "both"`:            func(c *haproxy.Config) { c.Stack = "both"; c.Bind = at("[::]:80") },
		"address fe80::1%eth0":            func(c *haproxy.Config) { c.Bind = at("[fe80::1%eth0]:80") },
		"address ::ffff:10.0.0.1":         func(c *haproxy.Config) { c.Servers[0] = at("[::ffff:10.0.0.1]:80") },
		"ports 5-6: HAProxy ignores them": func(c *haproxy.Config) { c.Source = haproxy.Source{Addr: netip.IPv6Unspecified(), First: 5, Last: 6} },
	} {
		c := haproxy.Config{Servers: []netip.AddrPort{server}}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
