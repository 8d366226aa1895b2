package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"twlab/harness/haproxy"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/node"
	"twlab/harness/tcp"
)

// loadSizes are the loads that are measured: clients, and connections of each.
var loadSizes = []struct{ clients, each int }{{1000, 1}, {100, 100}}

// benchLoads says what a load through gateway and balancer costs: time and
// processor time of this process from its first attempt on, and its memory.
func benchLoads(ctx context.Context, t *table, o options) error {
	for _, balancer := range []lab.BalancerSpec{{}, {Program: haproxy.Balancer{}}} {
		for _, size := range loadSizes {
			var took, cpu, rate sample
			for range roundsFor(size.clients, o.rounds) {
				r, used, err := measureLoad(ctx, balancer, size.clients, size.each)
				if err != nil {
					return fmt.Errorf("%d clients: %w", size.clients, err)
				}
				took.add(r.Took)
				cpu.add(used)
				rate = append(rate, float64(r.Attempts)/r.Took.Seconds())
			}
			what := fmt.Sprintf("load of %d clients, %d connections in all%s: ", size.clients, size.clients*size.each, through(balancer))
			t.alone(what+"time", took, seconds)
			t.alone(what+"processor time", cpu, seconds)
			t.alone(what+"rate", rate, perSecond)
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	t.alone("loads: largest size of this process", sample{float64(usage.Maxrss) * 1024}, mebibytes)
	return nil
}

func through(balancer lab.BalancerSpec) string {
	if balancer.IsEndpoint() {
		return ""
	}
	return fmt.Sprintf(", through %s", balancer.Program.Name())
}

// measureLoad has a load connect once, to the balancer itself or to a server
// behind it, which closes first.
func measureLoad(ctx context.Context, spec lab.BalancerSpec, clients, each int) (r load.Result, cpu time.Duration, err error) {
	topology := lab.Topology{Clients: clients, Gateway: lab.GatewaySpec{Kind: lab.Masquerade}, Balancer: spec}
	if !spec.IsEndpoint() {
		topology.Servers = 1
	}
	l, err := lab.Build(ctx, topology)
	if err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	balancer := l.Balancer()
	end, at := balancer, l.VIP()
	if !spec.IsEndpoint() {
		end, at = l.Servers()[0], l.Behind()[0]
	}
	if _, err := end.Listen(ctx, tcp.ListenSpec{At: at, Ending: tcp.CloseFirst}); err != nil {
		return r, 0, err
	}
	before, err := processorTime()
	if err != nil {
		return r, 0, err
	}
	r, err = load.Run(ctx, load.Plan{
		Clients: l.Nodes(lab.Client), Watched: append(l.Nodes(lab.Gateway), balancer), Each: each,
		Attempt: tcp.Attempt{To: l.VIP(), Ending: tcp.CloseAfterPeer},
	})
	if err != nil {
		return r, 0, err
	}
	if r.Failed() > 0 {
		return r, 0, fmt.Errorf("%v", r.Outcomes)
	}
	after, err := processorTime()
	return r, after - before, err
}

// viaLoad makes connections by a load of one client, the counters of both ends
// read all the while.
func viaLoad(client, server node.Node, listener tcp.Attempt) attempter {
	return func(ctx context.Context, count int) error {
		r, err := load.Run(ctx, load.Plan{
			Clients: []node.Node{client}, Watched: []node.Node{server}, Attempt: listener, Each: count, InFlight: batch,
			Interval: 100 * time.Millisecond,
		})
		if err == nil && r.Failed() > 0 {
			err = fmt.Errorf("%v", r.Outcomes)
		}
		return err
	}
}
