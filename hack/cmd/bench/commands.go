package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"twlab/harness/ns"
)

// commandLab is made as a shell script would: named namespaces, one command for
// each object.
type commandLab struct{ names []string }

func (c *commandLab) Watch(w *ns.Watch) error {
	for _, name := range c.names {
		if err := w.AddPath("/run/netns/" + name); err != nil {
			return err
		}
	}
	return nil
}

// Close deletes the names; a lab must be taken down even when its context is over.
func (c *commandLab) Close() error {
	var errs []error
	for _, name := range c.names {
		errs = append(errs, command(context.Background(), "ip netns delete "+name))
	}
	c.names = nil
	return errors.Join(errs...)
}

func buildByCommands(ctx context.Context, machines []machine, settings []setting) (*commandLab, error) {
	c := &commandLab{}
	for _, m := range machines {
		if err := command(ctx, "ip netns add "+m.name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.names = append(c.names, m.name)
		for _, line := range commandLines(m, settings) {
			if err := command(ctx, line); err != nil {
				return nil, errors.Join(err, c.Close())
			}
		}
	}
	return c, nil
}

// commandLines is what makes a machine and its link, after its namespace.
func commandLines(m machine, settings []setting) []string {
	if m.inner == "" {
		settings = append(settings[:len(settings):len(settings)], forward)
	}
	var assignments []string
	for _, s := range settings {
		assignments = append(assignments, s.name+"="+s.value)
	}
	var lines []string
	if len(assignments) > 0 {
		lines = append(lines, fmt.Sprintf("ip netns exec %s sysctl -q -w %s", m.name, strings.Join(assignments, " ")))
	}
	lines = append(lines, fmt.Sprintf("ip -n %s link set lo up", m.name))
	if m.inner == "" {
		return append(lines,
			fmt.Sprintf("ip netns exec %s iptables -w -t nat -A POSTROUTING %s", m.name, strings.Join(nat, " ")),
			fmt.Sprintf("ip -n %s address add %v/32 dev lo", m.name, m.addr))
	}
	near, far := hardware(0, m.addr), hardware(1, m.addr)
	return append(lines,
		fmt.Sprintf("ip -n %s link add eth0 address %v type veth peer name %s address %v netns %s", m.name, near, m.name, far, m.inner),
		fmt.Sprintf("ip -n %s link set %s up", m.inner, m.name),
		fmt.Sprintf("ip -n %s address add %v peer %v/32 dev %s", m.inner, m.innerAddr, m.addr, m.name),
		fmt.Sprintf("ip -n %s neighbour add %v lladdr %v dev %s", m.inner, m.addr, near, m.name),
		fmt.Sprintf("ip -n %s link set eth0 up", m.name),
		fmt.Sprintf("ip -n %s address add %v peer %v/32 dev eth0", m.name, m.addr, m.innerAddr),
		fmt.Sprintf("ip -n %s neighbour add %v lladdr %v dev eth0", m.name, m.innerAddr, far),
		fmt.Sprintf("ip -n %s route add default via %v", m.name, m.innerAddr))
}

// command runs a line of words separated by spaces.
func command(ctx context.Context, line string) error {
	words := strings.Fields(line)
	if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}
