package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/child"
	"twlab/harness/http"
	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/ns"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// exchanged is the body of a response that exchanges are measured with.
const exchanged = 100

// exchangesOfASample is how many exchanges there are for each connect of the
// other samples: wrk counts in tenths of seconds.
const exchangesOfASample = 10

// benchExchanges compares the rate of node.Exchange with that of wrk in the same
// namespace, towards the same responder: a connection for each request.
func benchExchanges(ctx context.Context, t *table, o options) (err error) {
	machines := plan(1)
	bare, err := buildBare(machines, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	for _, space := range bare.spaces {
		// Neither side is to wait for a port, nor to look for one for long.
		for _, s := range []setting{{"net.ipv4.tcp_max_tw_buckets", "1000"}, {"net.ipv4.ip_local_port_range", "1025 65535"}} {
			if err := space.Do(func() error { return kernel.WriteSysctl(s.name, s.value) }); err != nil {
				return err
			}
		}
	}
	server := node.NewLocal(topo.Identity{Name: machines[0].name, Role: topo.Gateway, Addr: machines[0].addr}, bare.spaces[0].Do)
	client := node.NewLocal(topo.Identity{Name: machines[2].name, Role: topo.Client, Addr: machines[2].addr}, bare.spaces[2].Do)
	defer func() { err = errors.Join(err, client.Close(), server.Close()) }()
	listener, err := server.Serve(ctx, http.ListenSpec{HTTP: &http.Responder{Body: exchanged}})
	if err != nil {
		return err
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprintln(t.out, "wrk is not installed, so exchanges are compared with nothing (apt-get install wrk)")
	}
	const atOnce = 100
	var ours, theirs, oursCPU, theirsCPU sample
	for round := range rateRounds*o.rounds + 1 {
		measure := func(rates, costs *sample, run func() (float64, error)) error {
			before, err := requestsOf(ctx, server, listener.Handle)
			if err != nil {
				return err
			}
			spent, err := processorTime()
			if err != nil {
				return err
			}
			rate, err := run()
			if err != nil {
				return err
			}
			more, err := processorTime()
			if err != nil {
				return err
			}
			after, err := requestsOf(ctx, server, listener.Handle)
			if round > 0 { // the first one is for warming up
				*rates = append(*rates, rate)
				*costs = append(*costs, (more-spent).Seconds()/float64(after-before))
			}
			return err
		}
		err := measure(&ours, &oursCPU, func() (float64, error) {
			return exchangeRate(ctx, client, listener.Addr, exchangesOfASample*o.attempts, atOnce)
		})
		if err == nil && wrk != "" {
			err = measure(&theirs, &theirsCPU, func() (float64, error) {
				return wrkRate(ctx, wrk, bare.spaces[2], listener.Addr, atOnce)
			})
		}
		if err != nil {
			return err
		}
	}
	what, cost := fmt.Sprintf("HTTP exchanges, %d at once", atOnce), "processor time of one, both ends"
	if wrk == "" {
		t.alone(what, ours, perSecond)
		t.alone(cost, oursCPU, microseconds)
		return nil
	}
	t.compare(what+", against wrk", ours, theirs, perSecond, goal{atLeast: 0.8})
	t.compare(cost, oursCPU, theirsCPU, microseconds, goal{})
	return nil
}

// requestsOf is how many requests a responder has had.
func requestsOf(ctx context.Context, server node.Node, listener tcp.Handle) (int, error) {
	served, err := server.Served(ctx, listener)
	return served.Requests, err
}

// processorTime is what this process and its children have used so far, in their
// own code and in the kernel.
func processorTime() (sum time.Duration, err error) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			return 0, fmt.Errorf("getrusage: %w", err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum, nil
}

// exchangeRate is how many exchanges a node makes in a second, while its counters
// are read before and after.
func exchangeRate(ctx context.Context, client node.Node, to netip.AddrPort, total, atOnce int) (float64, error) {
	exchanges := make([]http.Exchange, total)
	requests := []http.Request{{Connection: "close"}}
	for i := range exchanges {
		exchanges[i] = http.Exchange{Attempt: tcp.Attempt{To: to, Ending: tcp.CloseNow}, Requests: requests}
	}
	began := time.Now()
	before, err := client.Counters(ctx)
	if err != nil {
		return 0, err
	}
	done, err := client.Exchange(ctx, exchanges, atOnce)
	if err != nil {
		return 0, err
	}
	after, err := client.Counters(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(began)
	for _, d := range done {
		if d.Outcome != tcp.Connected || d.Replies[0].Disposition != http.Whole {
			return 0, fmt.Errorf("exchange with %v: %+v", to, d)
		}
	}
	if opens := after.Sub(before)["Tcp.ActiveOpens"]; opens != uint64(total) {
		return 0, fmt.Errorf("%d exchanges opened %d connections", total, opens)
	}
	return float64(total) / took.Seconds(), nil
}

var wrkSays = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// wrkRate is what wrk says when it does the same for a second, by one thread.
func wrkRate(ctx context.Context, wrk string, space *ns.Namespace, to netip.AddrPort, atOnce int) (float64, error) {
	var out strings.Builder
	err := space.Use(func(fd int) error {
		c := exec.CommandContext(ctx, "nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), fd), "--",
			wrk, "-t1", fmt.Sprintf("-c%d", atOnce), "-d1s", "-H", "Connection: close", fmt.Sprintf("http://%v/", to))
		c.Stdout, c.Stderr = &out, &out
		wait, err := child.Start(c)
		if err != nil {
			return err
		}
		return wait()
	})
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out.String())
	}
	found := wrkSays.FindStringSubmatch(out.String())
	if found == nil || strings.Contains(out.String(), "Socket errors: connect") {
		return 0, fmt.Errorf("wrk says: %s", out.String())
	}
	return strconv.ParseFloat(found[1], 64)
}
