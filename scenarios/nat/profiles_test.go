package nat

import (
	"math"
	"strings"
	"testing"
)

func TestProfilesAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, p := range Profiles() {
		if names[p.Name] {
			t.Errorf("two profiles are named %q", p.Name)
		}
		names[p.Name] = true
		if p.About == "" || p.Source == "" || p.Ports == 0 {
			t.Errorf("profile %s: want what it is, its ports and their source", p.Name)
		}
		if p.Timeout == 0 && p.Assumed == "" {
			t.Errorf("profile %s: nothing is said of the conntrack timeout that is not known", p.Name)
		}
	}
}

func TestCeilingIsPortsByHold(t *testing.T) {
	for name, want := range map[string]float64{"linux": 537.6, "gcp": 64.0 / 30, "azure": 64512.0 / 65, "aws": 0} {
		p, err := ProfileNamed(name)
		if got := p.Ceiling(); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v connections per second (%v), want %v", name, got, err, want)
		}
	}
}

func TestProfilesHaveTheirPorts(t *testing.T) {
	for _, p := range Profiles() {
		topology, err := p.Topology(8)
		if err == nil {
			err = topology.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		want := p.Ports
		if p.PerClient {
			want *= 8
		}
		if got := topology.Gateway.Ports.Size(); got != want {
			t.Errorf("%s: 8 clients share %d ports, want %d", p.Name, got, want)
		}
	}
	carrier, err := ProfileNamed("carrier")
	if err == nil {
		_, err = carrier.Topology(65)
	}
	if want := "one address has only 64512, enough for 64 clients"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("65 subscribers of an address for 64: %v, want an error with %q", err, want)
	}
}
