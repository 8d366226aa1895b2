package topo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (p Plan) validateRoutes() (errs []error) {
	for _, d := range p.Nodes {
		for _, r := range d.Routes {
			if _, found := d.Toward(r.Via); !found {
				errs = append(errs, fmt.Errorf("%s: route to %v via %q: no link to it", d.Name, r, r.Via))
			}
			if v := versionOf(r.To.Addr()); !isDefault(r) && !p.Network.IP.Has(v) {
				errs = append(errs, fmt.Errorf("%s: route to %v: %w", d.Name, r, p.Network.IP.lacks(v)))
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return p.loops()
}

// loops finds the addresses to which packets would go round. From each node the way is
// followed to the owner of the address; which way leads on is remembered.
func (p Plan) loops() (errs []error) {
	told := map[string]bool{}
	for _, target := range p.Network.destinations() {
		good := map[string]bool{}
		for _, d := range p.Nodes {
			var way []string
			for at := d; !good[at.Name] && !slices.Contains(at.Addrs(), target); {
				if slices.Contains(way, at.Name) {
					round := strings.Join(append(way[slices.Index(way, at.Name):], at.Name), " > ")
					if !told[round] {
						told[round] = true
						errs = append(errs, fmt.Errorf("packets to %v go round: %s", target, round))
					}
					break
				}
				if len(way) > 0 && !at.Forwards {
					break // it goes no further, whatever the routes say
				}
				way = append(way, at.Name)
				next, found := at.next(target)
				if !found {
					break // no route is a question of its own
				}
				at, _ = p.Node(next)
			}
			for _, name := range way {
				good[name] = true
			}
		}
	}
	return errs
}

// destinations are the addresses that routes and translations speak of: to neighbours
// nothing can go round.
func (n Network) destinations() (all []netip.Addr) {
	for _, d := range n.Nodes {
		all = append(all, d.Own...)
		for _, r := range d.Routes {
			if r.To.IsValid() {
				all = append(all, r.To.Addr())
			}
		}
		for _, t := range d.DestinationNAT {
			for _, to := range t.To {
				all = append(all, to.Addr())
			}
		}
	}
	return all
}
