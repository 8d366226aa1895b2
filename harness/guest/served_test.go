//go:build linux

package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"twlab/harness/internal/agent"
	"twlab/harness/internal/line"
	"twlab/harness/node"
)

// Every method of node.Node but Identity, which the host knows, is a call that the
// agent answers: of one that has not been told who it is, by the same sentence.
func TestTheAgentServesEveryMethodOfANode(t *testing.T) {
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- agent.NewServer(&agent.Agent{}).Serve(t.Context(), far) }()
	m := &Machine{caller: line.NewCaller(near, agent.Errors(), 0)}
	defer func() {
		m.caller.Close()
		if err := <-served; !errors.Is(err, io.EOF) {
			t.Errorf("the agent ended by %v, want the end of the line", err)
		}
	}()
	if err := m.caller.Greet(t.Context(), agent.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	methods := reflect.TypeFor[node.Node]()
	for i := range methods.NumMethod() {
		name := methods.Method(i).Name
		if name == "Identity" {
			continue
		}
		method := reflect.ValueOf(m).MethodByName(name)
		arguments := []reflect.Value{reflect.ValueOf(t.Context())}
		if first := method.Type().In(0); first != reflect.TypeFor[context.Context]() {
			t.Fatalf("%s: its first parameter is a %v, want a context", name, first)
		}
		for p := 1; p < method.Type().NumIn(); p++ {
			arguments = append(arguments, reflect.Zero(method.Type().In(p)))
		}
		results := method.Call(arguments)
		err, _ := results[len(results)-1].Interface().(error)
		if err == nil || !strings.Contains(err.Error(), "the machine is not set up") {
			t.Errorf("%s: %v, want an answer of the agent", name, err)
		}
	}
}
