package timewait

import (
	"time"

	"twlab/harness/kernel"
	"twlab/harness/observe"
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// recycleTell tells a cell of the family: what sameAddress does in Go, as steps. Where the kernel
// lacks tcp_tw_recycle, the step that sets it is left out.
func recycleTell(c claim.Cell) (situation.Told, error) {
	first := script.Endpoint{Name: "client0", Port: situation.SourcePort}
	second := script.Endpoint{Name: "client0", Port: situation.SourcePort + 1}
	behind, nat := first.Name, c.Is(recyclePath, "nat")
	if nat {
		second.Name, behind = "client1", "gateway"
	}
	var steps situation.Steps
	if value := c.Value(recycleSysctl); value != "untouched" {
		steps = append(steps, setRecycle(c, value, first.Name, second.Name)...)
	}
	steps.Do(script.Listen{Node: "balancer", Port: vip.Port, Serve: script.Hold})
	probe(&steps, second, script.Endpoint{Name: behind, Port: second.Port})
	if nat {
		forget(&steps, second)
	}
	steps.As(stepFirst, keeps(first, 0), situation.Connects()...)
	if stamps := !c.Is(recycleClientTS, "0", firstOnly) && !c.Is(recycleBalancerTS, "0"); stamps {
		set := script.Clock{Conn: script.Conn{Step: stepFirst}, Advance: time.Duration(situation.ClockLead) * time.Millisecond, Beyond: stepProbe}
		if c.Is(recycleClock, string(situation.Newer)) {
			set.Beyond, set.Behind = "", stepProbe
		}
		steps.Do(set)
	}
	part(&steps, c.Is(recycleCloser, recycleClient), first, script.Endpoint{Name: behind, Port: first.Port})
	if c.Is(gap, outside) {
		steps.Do(script.Sleep{For: situation.TimeWaitLength + 2*time.Second})
	}
	if c.Is(recycleClientTS, firstOnly) {
		steps.Do(script.Set{Node: second.Name, Sysctls: []script.Sysctl{{Name: "net.ipv4.tcp_timestamps", Value: "0"}}})
	}
	steps.As(stepSecond, keeps(second, 0))
	return situation.Told{Steps: steps, Client: second.Name, Evidence: map[string]situation.Teller{
		"passive rejects": tellPassive,
		"reset":           func(e claim.Expectation, to *[]script.Expectation) bool { return tellReset(e, to, second.Name) },
	}}, nil
}

// setRecycle sets the sysctl on the nodes of the cell's role, where their kernel has it.
func setRecycle(c claim.Cell, value, first, second string) (steps situation.Steps) {
	nodes := []string{"balancer"}
	if c.Is(recycleRole, recycleClient) {
		nodes = []string{first}
		if second != first {
			nodes = append(nodes, second)
		}
	}
	for _, n := range nodes {
		steps = append(steps, script.Step{
			When: script.Condition{At: n, Feature: string(kernel.TwRecycle)},
			Do:   script.Set{Node: n, Sysctls: []script.Sysctl{{Name: "net.ipv4.tcp_tw_recycle", Value: value}}},
		})
	}
	return steps
}

// part closes the first connection at both sides, one after the other, so that the side that
// closes first has the TIME_WAIT.
func part(to *situation.Steps, clientFirst bool, client, outside script.Endpoint) {
	one, other := script.Conn{Step: stepFirst, Server: true}, script.Conn{Step: stepFirst}
	at, local, remote := "balancer", vip, outside
	if clientFirst {
		one, other = other, one
		at, local, remote = client.Name, client, vip
	}
	to.Do(script.HalfClose{Conn: one}, situation.Has(at, string(observe.FinWait2), local, remote)...)
	to.Do(script.Receive{Conn: other})
	to.Do(script.Close{Conn: other})
	to.Do(script.Receive{Conn: one})
	to.Do(script.Close{Conn: one})
}

// tellPassive expects SYNs that tcp_tw_recycle dropped, where the kernel has the counter of them.
func tellPassive(e claim.Expectation, to *[]script.Expectation) bool {
	counted := []script.Expectation{{When: script.Condition{At: "balancer", Feature: string(kernel.PassivePAWS)}}}
	said := situation.AsCounter("balancer", kernel.PAWSPassive.Name)(e, &counted)
	*to = append(*to, counted...)
	return said
}
