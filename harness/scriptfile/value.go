package scriptfile

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// scalarOf makes the value of a field whose text is parsed. parse returns what is wrong.
func scalarOf(takes string, parse func(text string) (wrong string)) value {
	return value{takes, func(r *reader, n *yaml.Node) {
		if n == nil {
			return // keys are listed
		}
		text, ok := r.scalar(n, takes)
		if !ok {
			return
		}
		if wrong := parse(text); wrong != "" {
			r.wrong(n, "%s", wrong)
			r.complete = false
		}
	}}
}

func text(to *string) value {
	return scalarOf("text", func(t string) string { *to = t; return "" })
}

// words takes one of a few words.
func words[T ~string](to *T, choice ...string) value {
	return scalarOf(strings.Join(choice, " or "), func(t string) string {
		for _, c := range choice {
			if t == c {
				*to = T(t)
				return ""
			}
		}
		return strconv.Quote(t) + ": want " + strings.Join(choice, " or ")
	})
}

// named takes one of a few words that stand for values.
func named[T any](to *T, choice []string, values []T) value {
	return scalarOf(strings.Join(choice, " or "), func(t string) string {
		for i, c := range choice {
			if t == c {
				*to = values[i]
				return ""
			}
		}
		return strconv.Quote(t) + ": want " + strings.Join(choice, " or ")
	})
}

func truth(to *bool) value {
	return scalarOf("true or false", func(t string) string {
		if t != "true" && t != "false" {
			return strconv.Quote(t) + ": want true or false"
		}
		*to = t == "true"
		return ""
	})
}

var digits = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)

func number(to *int) value {
	return scalarOf("number", func(t string) string {
		if !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number such as 12"
		}
		*to, _ = strconv.Atoi(t)
		return ""
	})
}

func numberOrNil(to **int) value {
	return scalarOf("number", func(t string) string {
		if !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number such as 12"
		}
		n, _ := strconv.Atoi(t)
		*to = &n
		return ""
	})
}

// accepted takes a number of connections, or never.
func accepted(to **int) value {
	return scalarOf("number or never", func(t string) string {
		n := 0
		switch {
		case t == "never":
		case digits.MatchString(t) && t != "0":
			n, _ = strconv.Atoi(t)
		default:
			return strconv.Quote(t) + ": want a number such as 2, or never"
		}
		*to = &n
		return ""
	})
}

func number32(to *uint32) value {
	return scalarOf("number", func(t string) string {
		n, err := strconv.ParseUint(t, 10, 32)
		if err != nil || !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number from 1 to 4294967295"
		}
		*to = uint32(n)
		return ""
	})
}

func portOf(t string) (uint16, bool) {
	n, err := strconv.ParseUint(t, 10, 16)
	return uint16(n), err == nil && n > 0 && digits.MatchString(t)
}

func port(to *uint16) value {
	return scalarOf("port", func(t string) (wrong string) {
		var ok bool
		if *to, ok = portOf(t); !ok {
			return strconv.Quote(t) + ": want a port from 1 to 65535"
		}
		return ""
	})
}

// ports takes a range: "2000-2003".
func ports(first, last *uint16) value {
	return scalarOf("range of ports", func(t string) string {
		a, b, found := strings.Cut(t, "-")
		var ok, also bool
		*first, ok = portOf(strings.TrimSpace(a))
		*last, also = portOf(strings.TrimSpace(b))
		if !found || !ok || !also {
			return strconv.Quote(t) + ": want the first and the last port, such as 2000-2003"
		}
		return ""
	})
}

func duration(to *time.Duration) value {
	return scalarOf("duration", func(t string) (wrong string) {
		*to, wrong = parseDuration(t)
		return wrong
	})
}

func parseDuration(t string) (time.Duration, string) {
	if digits.MatchString(t) && t != "0" {
		return 0, t + " is no duration: say " + t + "ms or " + t + "s"
	}
	d, err := time.ParseDuration(t)
	if err != nil {
		return 0, strconv.Quote(t) + " is no duration: say 400ms, 3s or 2m"
	}
	return d, ""
}

// namePattern is that of nodes, groups, addresses and IDs.
var namePattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,29}$`)

func parseEndpoint(t string) (e script.Endpoint, wrong string) {
	name, after, has := strings.Cut(t, ":")
	var ok bool
	switch {
	case !namePattern.MatchString(name):
		return e, strconv.Quote(t) + ": want the name of a node or an address, and a port if it matters: web:80"
	case !has:
		return script.Endpoint{Name: name}, ""
	}
	if e.Port, ok = portOf(after); !ok {
		return e, strconv.Quote(t) + ": want a port from 1 to 65535 after the colon"
	}
	e.Name = name
	return e, ""
}

func endpoint(to *script.Endpoint) value {
	return scalarOf("NAME:PORT", func(t string) (wrong string) {
		*to, wrong = parseEndpoint(t)
		return wrong
	})
}

// conn takes a connection: "ID" or "ID@server".
func conn(to *script.Conn) value {
	return scalarOf("ID or ID@server", func(t string) string {
		id, side, has := strings.Cut(t, "@")
		if !namePattern.MatchString(id) || has && side != "server" {
			return strconv.Quote(t) + ": want the id of the step that connects, with @server for the server's end"
		}
		*to = script.Conn{Step: id, Server: has}
		return ""
	})
}

var (
	symsOf  = regexp.MustCompile(`^syns\(([a-zA-Z0-9_-]+)\)$`)
	between = regexp.MustCompile(`^(\S+)\.\.(\S+)$`)
)

const boundKinds = `3, ">= 3", "<= 3", "1..3", still, rises or syns(ID)`

// parseBound parses a bound whose numbers parse reads.
func parseBound(t string, parse func(string) (int64, bool)) (b script.Bound, wrong string) {
	bad := strconv.Quote(t) + ": want " + boundKinds
	number := func(text string) (n int64) {
		n, ok := parse(strings.TrimSpace(text))
		if !ok {
			wrong = bad
		}
		return n
	}
	if found := symsOf.FindStringSubmatch(t); found != nil {
		return script.Bound{SYNsOf: found[1]}, ""
	}
	if found := between.FindStringSubmatch(t); found != nil {
		b = script.Between(number(found[1]), number(found[2]))
		return b, wrong
	}
	switch {
	case t == "still":
		b = script.Exactly(0)
	case t == "rises":
		b = script.AtLeast(1)
	case strings.HasPrefix(t, ">="):
		b = script.AtLeast(number(t[2:]))
	case strings.HasPrefix(t, "<="):
		b = script.AtMost(number(t[2:]))
	default:
		b = script.Exactly(number(t))
	}
	return b, wrong
}

func parseNumber(t string) (int64, bool) {
	n, err := strconv.ParseInt(t, 10, 64)
	return n, err == nil && digits.MatchString(t)
}

func bound(to **script.Bound) value {
	return scalarOf(boundKinds, func(t string) string {
		b, wrong := parseBound(t, parseNumber)
		*to = &b
		return wrong
	})
}

func boundOf(to *script.Bound) value {
	return scalarOf(boundKinds, func(t string) (wrong string) {
		*to, wrong = parseBound(t, parseNumber)
		return wrong
	})
}

// times takes a bound of a duration, which it turns into milliseconds.
func times(to **script.Bound) value {
	return scalarOf(`"<= 1s", ">= 900ms" or "900ms..1100ms"`, func(t string) string {
		b, wrong := parseBound(t, func(text string) (int64, bool) {
			d, bad := parseDuration(text)
			return d.Milliseconds(), bad == ""
		})
		if wrong != "" {
			return strconv.Quote(t) + `: want "<= 1s", ">= 900ms" or "900ms..1100ms"`
		}
		*to = &b
		return ""
	})
}

// texts takes a list of texts.
func texts(to *[]string) value {
	return value{"list of texts", func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.list(n, "this", false, func(_ int, one *yaml.Node) {
			if t, ok := r.scalar(one, "text"); ok {
				*to = append(*to, t)
			}
		})
	}}
}

// endpoints takes a list of endpoints.
func endpoints(to *[]script.Endpoint) value {
	return value{"list of NAME:PORT", func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.list(n, "this", true, func(_ int, one *yaml.Node) {
			var e script.Endpoint
			endpoint(&e).read(r, one)
			*to = append(*to, e)
		})
	}}
}

// weights takes a mapping of servers to their weights.
func weights(to *[]script.Weight) value {
	return value{"mapping of NAME:PORT to numbers", func(r *reader, n *yaml.Node) {
		if n == nil {
			return
		}
		r.entries(n, "weights", func(key, val *yaml.Node) {
			var w script.Weight
			endpoint(&w.Server).read(r, key)
			number(&w.Weight).read(r, val)
			*to = append(*to, w)
		})
	}}
}

// group takes a mapping.
func group(what string, fields []field) value {
	return value{"mapping", func(r *reader, n *yaml.Node) { r.mapping(n, what, fields) }}
}
