package scriptfile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
)

// scalarOf makes the value of a field whose text is parsed. parse returns what is wrong. text
// is the text that is parsed into what the field has; empty where the key can be left out.
func scalarOf(takes string, f form, parse func(text string) (wrong string), text func() string) value {
	return value{takes, f, func(r *reader, n *yaml.Node) {
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
	}, func() *yaml.Node { return scalarNode(text()) }}
}

func text(to *string) value {
	return scalarOf("text", anyText, func(t string) string { *to = t; return "" }, func() string { return *to })
}

// words takes one of a few words.
func words[T ~string](to *T, choice ...string) value {
	return scalarOf(strings.Join(choice, " or "), form{words: choice}, func(t string) string {
		for _, c := range choice {
			if t == c {
				*to = T(t)
				return ""
			}
		}
		return strconv.Quote(t) + ": want " + strings.Join(choice, " or ")
	}, func() string { return string(*to) })
}

// named takes one of a few words that stand for values. The zero value is that of a key which
// is left out.
func named[T comparable](to *T, choice []string, values []T) value {
	return scalarOf(strings.Join(choice, " or "), form{words: choice}, func(t string) string {
		for i, c := range choice {
			if t == c {
				*to = values[i]
				return ""
			}
		}
		return strconv.Quote(t) + ": want " + strings.Join(choice, " or ")
	}, func() string {
		var zero T
		if i := slices.Index(values, *to); i >= 0 && *to != zero {
			return choice[i]
		}
		return ""
	})
}

func truth(to *bool) value {
	return scalarOf("true or false", form{words: []string{"true", "false"}, truths: true}, func(t string) string {
		if t != "true" && t != "false" {
			return strconv.Quote(t) + ": want true or false"
		}
		*to = t == "true"
		return ""
	}, func() string {
		if *to {
			return "true"
		}
		return ""
	})
}

// truthOrNil takes a truth value where it matters whether there is one.
func truthOrNil(to **bool) value {
	return scalarOf("true or false", form{words: []string{"true", "false"}, truths: true}, func(t string) string {
		if t != "true" && t != "false" {
			return strconv.Quote(t) + ": want true or false"
		}
		is := t == "true"
		*to = &is
		return ""
	}, func() string {
		if *to == nil {
			return ""
		}
		return strconv.FormatBool(**to)
	})
}

func number(to *int) value {
	return scalarOf("number", numberForm, func(t string) string {
		if !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number such as 12"
		}
		*to, _ = strconv.Atoi(t)
		return ""
	}, func() string { return unlessZero(int64(*to)) })
}

// unlessZero is the text of a number, and empty for 0.
func unlessZero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func numberOrNil(to **int) value {
	return scalarOf("number", numberForm, func(t string) string {
		if !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number such as 12"
		}
		n, _ := strconv.Atoi(t)
		*to = &n
		return ""
	}, func() string {
		if *to == nil {
			return ""
		}
		return strconv.Itoa(**to)
	})
}

// accepted takes a number of connections, or never.
func accepted(to **int) value {
	return scalarOf("number or never", acceptForm, func(t string) string {
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
	}, func() string {
		switch {
		case *to == nil:
			return ""
		case **to == 0:
			return "never"
		default:
			return strconv.Itoa(**to)
		}
	})
}

func number32(to *uint32) value {
	return scalarOf("number", numberForm, func(t string) string {
		n, err := strconv.ParseUint(t, 10, 32)
		if err != nil || !digits.MatchString(t) {
			return strconv.Quote(t) + ": want a number from 1 to 4294967295"
		}
		*to = uint32(n)
		return ""
	}, func() string { return unlessZero(int64(*to)) })
}

// percent takes a share.
func percent(to *float64) value {
	return scalarOf("percent", percentForm, func(t string) string {
		if !percentForm.pattern.MatchString(t) {
			return strconv.Quote(t) + ": want a number of percent such as 2.5"
		}
		*to, _ = strconv.ParseFloat(t, 64)
		return ""
	}, func() string {
		if *to == 0 {
			return ""
		}
		return strconv.FormatFloat(*to, 'f', -1, 64)
	})
}

func portOf(t string) (uint16, bool) {
	n, err := strconv.ParseUint(t, 10, 16)
	return uint16(n), err == nil && n > 0 && digits.MatchString(t)
}

func port(to *uint16) value {
	return scalarOf("port", portForm, func(t string) (wrong string) {
		var ok bool
		if *to, ok = portOf(t); !ok {
			return strconv.Quote(t) + ": want a port from 1 to 65535"
		}
		return ""
	}, func() string { return unlessZero(int64(*to)) })
}

// ports takes a range: "2000-2003".
func ports(first, last *uint16) value {
	return scalarOf("range of ports", portsForm, func(t string) string {
		a, b, found := strings.Cut(t, "-")
		var ok, also bool
		*first, ok = portOf(strings.TrimSpace(a))
		*last, also = portOf(strings.TrimSpace(b))
		if !found || !ok || !also {
			return strconv.Quote(t) + ": want the first and the last port, such as 2000-2003"
		}
		return ""
	}, func() string {
		if *first == 0 {
			return ""
		}
		return fmt.Sprintf("%d-%d", *first, *last)
	})
}

func duration(to *time.Duration) value {
	return scalarOf("duration", durations, func(t string) (wrong string) {
		*to, wrong = parseDuration(t)
		return wrong
	}, func() string {
		if *to == 0 {
			return ""
		}
		return durationText(*to)
	})
}

// durationText writes a duration without parts that are 0: "2h", not "2h0m0s".
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
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
	name, e.Six = strings.CutSuffix(name, ".ipv6")
	var ok bool
	switch {
	case !namePattern.MatchString(name):
		return e, strconv.Quote(t) + ": want the name of a node or an address, and a port if it matters: web:80"
	case !has:
		return script.Endpoint{Name: name, Six: e.Six}, ""
	}
	if e.Port, ok = portOf(after); !ok {
		return e, strconv.Quote(t) + ": want a port from 1 to 65535 after the colon"
	}
	e.Name = name
	return e, ""
}

func endpoint(to *script.Endpoint) value {
	return scalarOf("NAME:PORT", endpointForm, func(t string) (wrong string) {
		*to, wrong = parseEndpoint(t)
		return wrong
	}, func() string { return to.String() })
}

// pair takes the nodes of a link.
func pair(a, b *string) value {
	return scalarOf("A -- B", pairForm, func(t string) string {
		one, other, found := strings.Cut(t, "--")
		*a, *b = strings.TrimSpace(one), strings.TrimSpace(other)
		if !found || *a == "" || *b == "" {
			return strconv.Quote(t) + ": want two nodes, such as client -- gateway"
		}
		return ""
	}, func() string { return *a + " -- " + *b })
}

// conn takes a connection: "ID" or "ID@server".
func conn(to *script.Conn) value {
	return scalarOf("ID or ID@server", connForm, func(t string) string {
		id, side, has := strings.Cut(t, "@")
		if !namePattern.MatchString(id) || has && side != "server" {
			return strconv.Quote(t) + ": want the id of the step that connects, with @server for the server's end"
		}
		*to = script.Conn{Step: id, Server: has}
		return ""
	}, func() string { return to.String() })
}

var (
	symsOf  = regexp.MustCompile(`^syns\(([a-zA-Z0-9_-]+)\)$`)
	between = regexp.MustCompile(`^(\S+)\.\.(\S+)$`)
)
