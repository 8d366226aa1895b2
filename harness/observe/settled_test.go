//go:build linux

package observe

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// table makes sockets of one letter each: T a TIME_WAIT, E an established one, S a
// request, L a listener. Its place in the alphabet of ports tells them apart.
func table(kinds string, ports ...uint16) (all Sockets) {
	for i, k := range kinds {
		one := Socket{Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), ports[i]), Timer: TimerNone}
		switch k {
		case 'T':
			one.State, one.Timer = TimeWait, TimerTimeWait
		case 'E':
			one.State = Established
		case 'S':
			one.State = SynRecv
		case 'L':
			one.State = Listen
		}
		all = append(all, one)
	}
	return all
}

func TestSocketsAreReadUntilTheyAreWhatTheKernelCounts(t *testing.T) {
	whole := table("TTE", 1, 2, 3)
	for name, c := range map[string]struct {
		dumps []Sockets // the last one again and again
		count Occupancy
		want  Sockets
		reads int
	}{
		"at rest, once":                       {[]Sockets{whole}, Occupancy{TimeWait: 2, Sockets: 1}, whole, 1},
		"one missed":                          {[]Sockets{whole[1:], whole}, Occupancy{TimeWait: 2, Sockets: 1}, whole, 2},
		"an established one missed":           {[]Sockets{whole[:2], whole}, Occupancy{TimeWait: 2, Sockets: 1}, whole, 2},
		"one twice":                           {[]Sockets{table("TTTE", 1, 2, 2, 3)}, Occupancy{TimeWait: 2, Sockets: 1}, whole, 1},
		"one missed and one twice":            {[]Sockets{table("TTE", 1, 1, 3), whole}, Occupancy{TimeWait: 2, Sockets: 1}, whole, 2},
		"first established, then in its wait": {[]Sockets{table("ETT", 1, 1, 2)}, Occupancy{TimeWait: 2}, table("TT", 1, 2), 1},
		"requests are not counted":            {[]Sockets{table("TS", 1, 2)}, Occupancy{TimeWait: 1}, table("TS", 1, 2), 1},
		"listeners that share a port":         {[]Sockets{table("LL", 1, 1)}, Occupancy{Sockets: 2}, table("LL", 1, 1), 1},
		"a kernel that counts all namespaces": {[]Sockets{whole[1:], whole}, Occupancy{TimeWait: 99, Sockets: 1}, whole, 3},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			got, err := settledSockets(func() (Sockets, error) {
				reads++
				return slices.Clone(c.dumps[min(reads, len(c.dumps))-1]), nil
			}, func() (Occupancy, error) { return c.count, nil })
			if err != nil || !slices.Equal(got, c.want) || reads != c.reads {
				t.Errorf("after %d reads %v, %v; want after %d %v", reads, got, err, c.reads, c.want)
			}
		})
	}
}

func TestSocketsThatNeverSettleAreTheLastWithAllTimeWaits(t *testing.T) {
	reads := uint16(0)
	got, err := settledSockets(func() (Sockets, error) {
		reads++
		if reads > socketTries/2 {
			return table("TE", 1, 100+reads), nil
		}
		return table("TTE", 1, 2, 100+reads), nil
	}, func() (Occupancy, error) { return Occupancy{TimeWait: 2, Sockets: 7}, nil })
	if want := table("TTE", 1, 2, 100+socketTries/2); err != nil || reads != socketTries || !slices.Equal(got, want) {
		t.Errorf("after %d reads %v, %v; want %v", reads, got, err, want)
	}
}

func TestSocketsThatCannotBeReadAreAnError(t *testing.T) {
	broken := errors.New("broken")
	if _, err := settledSockets(func() (Sockets, error) { return nil, broken }, nil); !errors.Is(err, broken) {
		t.Errorf("no list: %v", err)
	}
	_, err := settledSockets(func() (Sockets, error) { return nil, nil }, func() (Occupancy, error) { return Occupancy{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("no count: %v", err)
	}
}
