package scriptfile

import (
	"net/netip"
	"strconv"

	"go.yaml.in/yaml/v3"

	"twlab/harness/topo"
)

func (t *topology) readLinks(r *reader, n *yaml.Node) {
	if n == nil {
		t.link(r, nil)
		return
	}
	r.list(n, "links", false, func(_ int, one *yaml.Node) { t.link(r, one) })
}

// link reads a link: its nodes, or a mapping that says more.
func (t *topology) link(r *reader, n *yaml.Node) {
	l := linkDecl{at: n}
	if n != nil && n.Kind != yaml.MappingNode {
		pair(&l.a, &l.b).read(r, n)
		t.links = append(t.links, l)
		return
	}
	there := r.mapping(n, "a link", l.fields())
	switch {
	case n == nil:
		return
	case there["between"] == nil:
		r.wrong(n, "a link between which nodes? Say \"between: client -- gateway\"")
	case l.from != "" && l.from != l.a && l.from != l.b:
		r.wrong(there["from"], "%q is at neither end of the link: want %s or %s", l.from, l.a, l.b)
	}
	t.links = append(t.links, l)
}

func (l *linkDecl) fields() []field {
	return append([]field{
		{"between", "Its nodes: client -- gateway.", pair(&l.a, &l.b)},
		{"mtu", "The largest packet in bytes; 1500 without it.", number(&l.mtu)},
	}, impairmentFields(&l.from, &l.sends)...)
}

// node is the link as a file has it: its nodes alone, where there is no more to say.
func (l linkDecl) node() *yaml.Node {
	n := mappingNode(l.fields())
	if len(n.Content) == 2 {
		return n.Content[1]
	}
	return n
}

// linkForm is that of a link: two nodes, or a mapping.
var linkForm = form{kind: linkOrMapping}

func (t *topology) readAddresses(r *reader, n *yaml.Node) {
	read := func(key, val *yaml.Node) {
		d := addressDecl{at: key}
		if key != nil {
			d.name = key.Value
		}
		r.mapping(val, "an address", d.fields())
		if key != nil && (d.owner == "") == (len(d.via) == 0) {
			r.wrong(key, "%q: want either its owner, or the nodes via which it is routed", d.name)
		}
		t.addresses = append(t.addresses, d)
	}
	if n == nil {
		r.below("NAME", place{}, func() { read(nil, nil) })
		return
	}
	r.entries(n, "addresses", func(key, val *yaml.Node) {
		if !namePattern.MatchString(key.Value) {
			r.wrong(key, "%q: the name of an address has letters, digits, - and _, and begins with a letter", key.Value)
		}
		read(key, val)
	})
}

func (d *addressDecl) fields() []field {
	return []field{
		{"owner", "The node that has it.", text(&d.owner)},
		{"via", "The nodes over which it is routed, if nobody has it.", texts(&d.via)},
	}
}

// address is the i-th address below 10.B.0.0/16, or what stands for it in IPv6.
func address(v topo.IPVersion, b byte, i int) netip.Addr {
	if v == topo.IPv6 {
		return netip.MustParseAddr("fd74:776c:6162:ffff::" + strconv.FormatInt(int64(b), 16) + ":" + strconv.FormatInt(int64(i), 16))
	}
	return netip.AddrFrom4([4]byte{10, b, byte(i >> 8), byte(i)})
}
