//go:build linux

package observe

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (s *Snapshot) addRoutes(names linkNames) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := listed("routes", func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		for i := range routes {
			s.add(routeWords(&routes[i], names)...)
		}
	}
	return nil
}

func routeWords(r *netlink.Route, names linkNames) []string {
	target := "default"
	if r.Dst != nil {
		target = r.Dst.String()
	}
	words := []string{"route", target, "table", fmt.Sprint(r.Table), "type", fmt.Sprint(r.Type),
		"protocol", fmt.Sprint(int(r.Protocol)), "scope", r.Scope.String()}
	if len(r.MultiPath) == 0 {
		words = append(words, hop(names, r.LinkIndex, r.Gw, r.Via, r.Encap)...)
	}
	for _, h := range r.MultiPath {
		words = append(words, "nexthop", "weight", fmt.Sprint(h.Hops+1))
		words = append(words, hop(names, h.LinkIndex, h.Gw, h.Via, h.Encap)...)
	}
	if r.Src != nil {
		words = append(words, "src", r.Src.String())
	}
	// The other flags report the state of the link (RTNH_F_LINKDOWN).
	if r.Flags&unix.RTNH_F_ONLINK != 0 {
		words = append(words, "onlink")
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"metric", r.Priority}, {"tos", r.Tos}, {"realm", r.Realm}, {"mtu", r.MTU}, {"window", r.Window}, {"rtt", r.Rtt},
		{"rttvar", r.RttVar}, {"ssthresh", r.Ssthresh}, {"cwnd", r.Cwnd}, {"advmss", r.AdvMSS}, {"reordering", r.Reordering},
		{"hoplimit", r.Hoplimit}, {"initcwnd", r.InitCwnd}, {"features", r.Features}, {"rto_min", r.RtoMin},
		{"initrwnd", r.InitRwnd}, {"quickack", r.QuickACK}, {"fastopen_no_cookie", r.FastOpenNoCookie},
	} {
		if n.value != 0 {
			words = append(words, n.name, fmt.Sprint(n.value))
		}
	}
	if r.Congctl != "" {
		words = append(words, "congctl", r.Congctl)
	}
	return words
}

func hop(names linkNames, link int, gateway fmt.Stringer, via netlink.Destination, encap netlink.Encap) []string {
	var words []string
	if g := gateway.String(); g != "<nil>" {
		words = append(words, "via", g)
	}
	if via != nil {
		words = append(words, "via", via.String())
	}
	if encap != nil {
		words = append(words, "encap", encap.String())
	}
	if link != 0 {
		words = append(words, "dev", names.of(link))
	}
	return words
}

func (s *Snapshot) addRules() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := listed("rules", func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
		if err != nil {
			return err
		}
		for i := range rules {
			s.add(ruleWords(&rules[i])...)
		}
	}
	return nil
}

func ruleWords(r *netlink.Rule) []string {
	family := "inet"
	if r.Family == netlink.FAMILY_V6 {
		family = "inet6"
	}
	words := []string{"rule", family, fmt.Sprint(r.Priority)}
	if r.Invert {
		words = append(words, "not")
	}
	if r.Src != nil {
		words = append(words, "from", r.Src.String())
	}
	if r.Dst != nil {
		words = append(words, "to", r.Dst.String())
	}
	if r.IifName != "" {
		words = append(words, "iif", r.IifName)
	}
	if r.OifName != "" {
		words = append(words, "oif", r.OifName)
	}
	if r.Mark != 0 || r.Mask != nil {
		mask := uint32(0xffffffff)
		if r.Mask != nil {
			mask = *r.Mask
		}
		words = append(words, "fwmark", fmt.Sprintf("%#x/%#x", r.Mark, mask))
	}
	if r.Sport != nil {
		words = append(words, "sport", fmt.Sprintf("%d-%d", r.Sport.Start, r.Sport.End))
	}
	if r.Dport != nil {
		words = append(words, "dport", fmt.Sprintf("%d-%d", r.Dport.Start, r.Dport.End))
	}
	if r.UIDRange != nil {
		words = append(words, "uidrange", fmt.Sprintf("%d-%d", r.UIDRange.Start, r.UIDRange.End))
	}
	for _, n := range []struct {
		name         string
		value, unset int
	}{
		{"tos", int(r.Tos), 0}, {"ipproto", r.IPProto, 0}, {"tun_id", int(r.TunID), 0}, {"goto", r.Goto, -1}, {"realm", r.Flow, -1},
		{"suppress_prefixlength", r.SuppressPrefixlen, -1}, {"suppress_ifgroup", r.SuppressIfgroup, -1}, {"table", r.Table, 0},
	} {
		if n.value != n.unset {
			words = append(words, n.name, fmt.Sprint(n.value))
		}
	}
	return words
}
