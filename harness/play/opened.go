//go:build linux

package play

import (
	"cmp"
	"errors"
	"fmt"

	"twlab/harness/script"
	"twlab/harness/tcp"
)

// errNotOpened means that a listener was not opened, and that nobody has asked whether it
// would be. Steps after it would find no listener, which says nothing about the kernel.
var errNotOpened = errors.New("the situation did not come about")

// opened returns an error when a step was to open a listener, the kernel refused, and no
// expectation asks for the kernel's answer.
func (p *player) opened(step script.Step, r Result) error {
	if r.Outcome == "" || r.Outcome == string(tcp.Listening) {
		return nil
	}
	for _, e := range step.Expect {
		applies, _, err := p.applies(e.When)
		if err != nil || applies && (e.Outcome != "" || e.Errno != "" || e.Holder != nil) {
			return err
		}
	}
	of := step.Do
	if a, ok := of.(script.Await); ok {
		of = p.begun(a.Step)
	}
	return fmt.Errorf("%w: %q opened no listener (%s: %s), and the step does not expect outcome: %s",
		errNotOpened, What(of), r.Errno, cmp.Or(whyNotOpened[tcp.Outcome(r.Outcome)], r.Outcome), r.Outcome)
}

// whyNotOpened is what the kernel means by its refusal.
var whyNotOpened = map[tcp.Outcome]string{
	tcp.PortInUse: "another socket has the port",
	tcp.NoAddress: "the node does not have this address, or not yet",
	tcp.Denied:    "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
}

// begun is what a step in the background does.
func (p *player) begun(id string) script.Action {
	return p.scenario.Steps[p.running[id].index].Do
}
