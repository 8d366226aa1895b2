package script

import (
	"fmt"
	"strings"
	"time"
)

// Actions returns one empty action of each kind, in the order of the documents.
func Actions() []Action {
	return []Action{
		Listen{}, Connect{}, Load{}, Exchange{}, Send{}, Receive{}, Close{}, HalfClose{}, Reset{}, Vanish{}, Clock{},
		AddRule{}, RemoveRule{}, Drop{}, SetLink{}, Impair{}, ForgetFlows{}, Set{},
		Stop{}, Start{}, Reload{}, Await{}, Sleep{},
	}
}

// Verbs returns the names of all actions.
func Verbs() (all []string) {
	for _, a := range Actions() {
		all = append(all, a.Verb())
	}
	return all
}

// Verb is "listen".
func (Listen) Verb() string { return "listen" }

// Verb is "connect".
func (Connect) Verb() string { return "connect" }

// Verb is "exchange".
func (Exchange) Verb() string { return "exchange" }

// Verb is "send".
func (Send) Verb() string { return "send" }

// Verb is "receive".
func (Receive) Verb() string { return "receive" }

// Verb is "close".
func (Close) Verb() string { return "close" }

// Verb is "half-close".
func (HalfClose) Verb() string { return "half-close" }

// Verb is "reset".
func (Reset) Verb() string { return "reset" }

// Verb is "vanish".
func (Vanish) Verb() string { return "vanish" }

// Verb is "clock".
func (Clock) Verb() string { return "clock" }

// Verb is "add-rule".
func (AddRule) Verb() string { return "add-rule" }

// Verb is "remove-rule".
func (RemoveRule) Verb() string { return "remove-rule" }

// Verb is "drop".
func (Drop) Verb() string { return "drop" }

// Verb is "link".
func (SetLink) Verb() string { return "link" }

// Verb is "forget-flows".
func (ForgetFlows) Verb() string { return "forget-flows" }

// Verb is "set".
func (Set) Verb() string { return "set" }

// Verb is "stop".
func (Stop) Verb() string { return "stop" }

// Verb is "start".
func (Start) Verb() string { return "start" }

// Verb is "reload".
func (Reload) Verb() string { return "reload" }

// Verb is "await".
func (Await) Verb() string { return "await" }

// Verb is "sleep".
func (Sleep) Verb() string { return "sleep" }

// String is what files have: "client0:50000", "web.ipv6:80", or the name alone.
func (e Endpoint) String() string {
	name := e.Name
	if e.Six {
		name += ".ipv6"
	}
	if e.Port == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, e.Port)
}

// String is what files have: "first", or "first@server".
func (c Conn) String() string {
	if c.Server {
		return c.Step + "@server"
	}
	return c.Step
}

// String is what files have: "3", ">= 3", "<= 3", "3..5", "syns(first)".
func (b Bound) String() string {
	switch {
	case b.SYNsOf != "":
		return "syns(" + b.SYNsOf + ")"
	case b.Open:
		return fmt.Sprintf(">= %d", b.Low)
	case b.Low == b.High:
		return fmt.Sprint(b.Low)
	case b.Low == 0:
		return fmt.Sprintf("<= %d", b.High)
	default:
		return fmt.Sprintf("%d..%d", b.Low, b.High)
	}
}

// Holds reports whether a number is within the bound. syns is the number of SYNs of the step
// that it names, if it names one.
func (b Bound) Holds(n, syns int64) bool {
	if b.SYNsOf != "" {
		return n == syns
	}
	return n >= b.Low && (b.Open || n <= b.High)
}

// String says what the condition asks: "kernel of gateway since 5.14".
func (c Condition) String() string {
	var parts []string
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add("since %s", c.Since)
	add("before %s", c.Before)
	add("with %s", c.Feature)
	add("without %s", c.Without)
	if len(parts) == 0 {
		return "always"
	}
	of := "kernel"
	if c.At != "" {
		of = "kernel of " + c.At
	}
	return of + " " + strings.Join(parts, " ")
}

// longest is the longest time that a step may ask for, so that a slip of the pen is found
// before a run.
const longest = 24 * time.Hour
