//go:build linux

package observe

import "testing"

func TestOccupancyIsReadFromTheLineOfTCP(t *testing.T) {
	const text = "sockets: used 12\nTCP: inuse 3 orphan 0 tw 120 alloc 8 mem 395\nUDP: inuse 1 mem 0\n"
	var got Occupancy
	if err := got.parse(text); err != nil {
		t.Fatal(err)
	}
	if want := (Occupancy{Sockets: 3, TimeWait: 120}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.parse("TCP6: inuse 2\nUDP6: inuse 1\n"); err != nil {
		t.Fatal(err)
	}
	if want := (Occupancy{Sockets: 5, TimeWait: 120}); got != want {
		t.Errorf("with IPv6: got %+v, want %+v", got, want)
	}
}

func TestOccupancyWithoutItsNumbersIsAnError(t *testing.T) {
	for _, text := range []string{"", "sockets: used 12\n", "TCP: inuse 3 orphan 0\n", "TCP: inuse many tw 1\n", "TCP6: in 1\n"} {
		var got Occupancy
		if err := got.parse(text); err == nil {
			t.Errorf("parse(%q) = %+v, want an error", text, got)
		}
	}
}
