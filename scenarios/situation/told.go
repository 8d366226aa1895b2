package situation

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/script"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// ErrUntold means that the steps of scenario files cannot bring a cell about.
var ErrUntold = errors.New("no scenario file brings this cell about")

// Told is a cell as the steps of a scenario file. The last step is what the rule is about.
type Told struct {
	Steps Steps
	// Hurry, if it is set, is how soon a step must begin, or the situation is over: a slow machine
	// shows another one.
	Hurry Hurry
	// Program is what the balancer runs; its servers are all servers.
	Program *script.Program
	// Sysctls are added to those of the cell's topology.
	Sysctls topo.Settings
	// Client, Balancer and Server are the nodes whose counters the rules mean; client0, balancer
	// and server0 if they are empty.
	Client, Balancer, Server string
	// Evidence says what the family's own evidence is in the words of files.
	Evidence map[string]Teller
}

// Hurry is a time within which one step must begin after the beginning of an earlier one. Both are
// counted from 0.
type Hurry struct {
	From, To int
	Within   time.Duration
}

// Steps are steps that are added one after the other.
type Steps []script.Step

// Do adds a step without a name.
func (s *Steps) Do(a script.Action, expect ...script.Expectation) { s.As("", a, expect...) }

// As adds a step with a name.
func (s *Steps) As(id string, a script.Action, expect ...script.Expectation) {
	*s = append(*s, script.Step{ID: id, Do: a, Expect: expect})
}

// After adds a step with a name that begins some time after the end of the one before.
func (s *Steps) After(pause time.Duration, id string, a script.Action) {
	*s = append(*s, script.Step{ID: id, After: pause, Do: a})
}

// At is a teller that tells of an earlier step, by its index.
func (s Steps) At(step int, tell Teller) Teller {
	return func(e claim.Expectation, _ *[]script.Expectation) bool {
		if len(s[step].Expect) == 0 {
			s[step].Expect = []script.Expectation{{}}
		}
		return tell(e, &s[step].Expect)
	}
}

// Teller adds what a rule expects of one thing to what is expected of a step. It returns false
// if files have no word for it.
type Teller func(e claim.Expectation, to *[]script.Expectation) (said bool)

// Scenario tells the cell as a scenario, with what the rule expects as expectations. unsaid is
// what the rule expects and files have no word for. The error is ErrUntold if the steps of files
// cannot bring the cell about.
func (f Family) Scenario(c claim.Cell, rule claim.Rule) (s script.Scenario, unsaid []claim.Expectation, err error) {
	told, err := f.told(c)
	if err != nil {
		return s, nil, err
	}
	last := &told.Steps[len(told.Steps)-1]
	if len(last.Expect) == 0 {
		last.Expect = []script.Expectation{{}}
	}
	for _, e := range rule.Want {
		if !told.tell(e, &last.Expect) {
			unsaid = append(unsaid, e)
		}
	}
	if _, load := last.Do.(script.Load); !load { // whose attempts may have several causes together
		last.Expect[0].Cause = rule.CauseOf(c)
	}
	shape := f.Lab(c)
	shape.Sysctls = slices.Concat(shape.Sysctls, told.Sysctls)
	shape, before := tellable(shape)
	s = script.Usual(shape)
	s.Name = f.Name + " " + f.Describe(c)
	s.Truth = sentence(rule.Because)
	s.Steps = slices.Concat(before, told.Steps)
	if told.Program != nil {
		p := *told.Program
		for _, name := range s.Groups["servers"] {
			p.Servers = append(p.Servers, script.Endpoint{Name: name, Port: 80})
		}
		s.Programs = map[string]script.Program{string(topo.Balancer): p}
	}
	return s, unsaid, nil
}

// told tells the cell, or says why nothing tells it.
func (f Family) told(c claim.Cell) (Told, error) {
	if f.Tell == nil {
		return Told{}, fmt.Errorf("family %s: %w: %s", f.Name, ErrUntold, f.Untold)
	}
	told, err := f.Tell(c)
	if err != nil {
		return Told{}, fmt.Errorf("family %s: %w: %w", f.Name, ErrUntold, err)
	}
	return told, nil
}

// Hurry is how soon a step of the cell's scenario must begin; its zero value is no limit.
func (f Family) Hurry(c claim.Cell) Hurry {
	told, err := f.told(c)
	if err != nil {
		return Hurry{}
	}
	return told.Hurry
}

// sentence is a text as a sentence.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// tellable is the topology with the names that the short form of files gives, and steps for what
// that has no key for: sysctls that only some kernels have, sysctls of single nodes, and rules.
// Of each sysctl of a role it has the last value.
func tellable(t topo.Topology) (topo.Topology, []script.Step) {
	var steps []script.Step
	var roles []topo.Role
	of := map[topo.Role]topo.Settings{}
	all := t.Sysctls
	t.Names, t.Sysctls, t.Loopback, t.Balancer.Program = nil, nil, "", nil
	for _, one := range all {
		switch {
		case one.Node != "":
			steps = append(steps, script.Step{Do: script.Set{Node: one.Node, Sysctls: []script.Sysctl{{Name: one.Name, Value: one.Value}}}})
			continue
		case one.IfPresent:
			for _, n := range script.Usual(t).Groups[string(one.Role)+"s"] {
				steps = append(steps, script.Step{
					When: script.Condition{At: n, Since: namespaced(one.Name)},
					Do:   script.Set{Node: n, Sysctls: []script.Sysctl{{Name: one.Name, Value: one.Value}}},
				})
			}
			continue
		}
		if !slices.Contains(roles, one.Role) {
			roles = append(roles, one.Role)
		}
		at := slices.IndexFunc(of[one.Role], func(s topo.Setting) bool { return s.Name == one.Name })
		if at < 0 {
			of[one.Role] = append(of[one.Role], one)
			continue
		}
		of[one.Role][at].Value = one.Value
	}
	for _, role := range roles {
		t.Sysctls = append(t.Sysctls, of[role]...)
	}
	for _, r := range t.Rules {
		nodes := []string{r.Node}
		if r.Node == "" {
			nodes = script.Usual(t).Groups[string(r.Role)+"s"]
		}
		for _, n := range nodes {
			steps = append(steps, script.Step{Do: script.AddRule{Node: n, Table: r.Table, Chain: r.Chain, Spec: r.Spec, IP: r.IP}})
		}
	}
	t.Rules = nil
	return t, steps
}

// namespaced is the release since which network namespaces have a sysctl of their own.
func namespaced(name string) string {
	s, _ := kernel.SysctlNamed(name)
	return s.Namespaced.String()
}

// tell says what the rule expects in the words of files.
func (t Told) tell(e claim.Expectation, to *[]script.Expectation) bool {
	if own, there := t.Evidence[e.What]; there {
		return own(e, to)
	}
	first := &(*to)[0]
	role, counter, isCounter := strings.Cut(e.What, " ")
	bound, number := BoundOf(e)
	switch {
	case e.What == OutcomeEvidence.Name:
		return TellOutcome(e, to)
	case e.What == SYNsEvidence.Name && number:
		first.SYNs = &bound
	case e.What == AnswersEvidence.Name:
		return TellAnswers(e, to)
	case e.What == PAWSRejectsEvidence.Name && number:
		tellPAWS(t.node(topo.Balancer), bound, to)
	case isCounter && number && strings.Contains(counter, "."):
		SetCounter(first, t.node(topo.Role(role)), counter, bound)
	default:
		return false
	}
	return true
}

// node is the node whose counters a rule means.
func (t Told) node(role topo.Role) string {
	switch role {
	case topo.Client:
		return cmp.Or(t.Client, "client0")
	case topo.Balancer:
		return cmp.Or(t.Balancer, "balancer")
	case topo.Server:
		return cmp.Or(t.Server, "server0")
	default:
		return string(role)
	}
}

// BoundOf is the bound of a number that a rule expects; false if it expects a text.
func BoundOf(e claim.Expectation) (b script.Bound, number bool) {
	switch {
	case len(e.OneOf) > 0:
		return b, false
	case e.Most == math.MaxInt64:
		return script.AtLeast(e.Least), true
	default:
		return script.Between(e.Least, e.Most), true
	}
}
