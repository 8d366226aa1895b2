//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"twlab/harness/kernel"
	"twlab/harness/node"
	"twlab/harness/tcp"
)

// GivesUp returns the time from connect(2) to ETIMEDOUT when no answer comes, with the
// current sysctls of the client.
func GivesUp(ctx context.Context, client node.Node) (time.Duration, error) {
	release, err := client.Release(ctx)
	if err != nil {
		return 0, err
	}
	var timer tcp.SYNTimer
	if release.Before(3, 1) {
		timer.First = 3 * time.Second
	}
	var longest int // ms, Linux 6.15
	for _, of := range []struct {
		sysctl string
		to     *int
	}{
		{"net.ipv4.tcp_syn_retries", &timer.Retries},
		{"net.ipv4.tcp_syn_linear_timeouts", &timer.Linear},
		{"net.ipv4.tcp_rto_max_ms", &longest},
	} {
		if *of.to, err = numberOf(ctx, client, of.sysctl); err != nil {
			return 0, err
		}
	}
	timer.Longest = time.Duration(longest) * time.Millisecond
	return timer.GivesUp(), nil
}

// numberOf reads a numeric sysctl; 0 when the kernel does not have it.
func numberOf(ctx context.Context, n node.Node, name string) (int, error) {
	text, err := n.Sysctl(ctx, name)
	if errors.Is(err, kernel.ErrSysctlNotYet) || errors.Is(err, kernel.ErrSysctlUnknown) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("sysctl %s: %w", name, err)
	}
	return number, nil
}
