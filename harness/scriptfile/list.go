package scriptfile

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// texts takes a list of texts.
func texts(to *[]string) value {
	return value{"list of texts", listOf(anyText), func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.list(n, "this", false, func(_ int, one *yaml.Node) {
			if t, ok := r.scalar(one, "text"); ok {
				*to = append(*to, t)
			}
		})
	}, func() *yaml.Node { return listNode(*to, scalarNode) }}
}

// endpoints takes a list of endpoints.
func endpoints(to *[]script.Endpoint) value {
	return value{"list of NAME:PORT", oneOrListOf(endpointForm), func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.list(n, "this", true, func(_ int, one *yaml.Node) {
			var e script.Endpoint
			endpoint(&e).read(r, one)
			*to = append(*to, e)
		})
	}, func() *yaml.Node {
		return listNode(*to, func(e script.Endpoint) *yaml.Node { return scalarNode(e.String()) })
	}}
}

// weights takes a mapping of servers to their weights.
func weights(to *[]script.Weight) value {
	return value{"mapping of NAME:PORT to numbers", namesOf(numberForm), func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.entries(n, "weights", func(key, val *yaml.Node) {
			var w script.Weight
			endpoint(&w.Server).read(r, key)
			number(&w.Weight).read(r, val)
			*to = append(*to, w)
		})
	}, func() *yaml.Node {
		n := mappingNode(nil)
		for _, w := range *to {
			n.Content = append(n.Content, scalarNode(w.Server.String()), scalarNode(strconv.Itoa(w.Weight)))
		}
		return unlessEmpty(n)
	}}
}

// group takes a mapping.
func group(what string, fields []field) value {
	return value{"mapping", mapping, func(r *reader, n *yaml.Node) { r.mapping(n, what, fields) },
		func() *yaml.Node { return unlessEmpty(mappingNode(fields)) }}
}
