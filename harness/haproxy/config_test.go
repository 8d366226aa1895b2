//go:build linux

package haproxy_test

import (
	"net/netip"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"twlab/harness/haproxy"
)

// samples are values for the fields whose type does not say what they may be.
var samples = map[string][]reflect.Value{
	"Mode":          values(haproxy.HTTP),
	"Bind":          values(netip.MustParseAddrPort("127.0.0.1:81")),
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
