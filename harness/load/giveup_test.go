//go:build linux

package load_test

import (
	"fmt"
	"testing"
	"time"

	"twlab/harness/internal/labtest"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
)

func TestTheKernelGivesUpWhenItIsSaidTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ retries, linear int }{{1, 0}, {2, 0}, {1, 3}, {2, 1}} {
		t.Run(fmt.Sprintf("%d retries, %d linear", c.retries, c.linear), func(t *testing.T) {
			t.Parallel()
			l := labtest.Build(t, lab.Topology{Clients: 1, Sysctls: append(
				lab.On(lab.Client, fmt.Sprintf("net.ipv4.tcp_syn_retries=%d", c.retries)),
				lab.Setting{Role: lab.Client, Name: "net.ipv4.tcp_syn_linear_timeouts", Value: fmt.Sprint(c.linear), IfPresent: true},
			), Rules: []lab.Rule{{Role: lab.Balancer, Table: "filter", Chain: "INPUT", Spec: "-p tcp -j DROP"}}})
			client, balancer := l.Client(0), l.Balancer()
			listener, err := balancer.Listen(t.Context(), tcp.ListenSpec{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := load.GivesUp(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			outcomes, err := client.Attempt(t.Context(), []tcp.Attempt{{To: listener.Addr}})
			if err != nil {
				t.Fatal(err)
			}
			// Timers are up to an eighth late, each of them.
			if o := outcomes[0]; o.Outcome != tcp.TimedOut || o.Took < want-10*time.Millisecond || o.Took > want+want/8+time.Second {
				t.Errorf("got %v, want TimedOut after %v", o, want)
			}
			t.Logf("said %v, took %v", want, outcomes[0].Took)
		})
	}
}
