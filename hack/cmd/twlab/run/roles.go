package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"twlab/hack/cmd/twlab/e2e"
	hackguest "twlab/hack/cmd/twlab/guest"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
	"twlab/harness/guest"
	"twlab/harness/kernels"
	"twlab/harness/script"
	"twlab/harness/scriptfile"
	"twlab/harness/topo"
)

// assignment says which nodes are guests.
type assignment []assigned

// assigned is a role, or the name of nodes, with the kind of guest that they are.
type assigned struct {
	role string
	kind guest.Kind
}

// assigned finds the kernels of roles.
func (o *options) assigned(files []scriptfile.File) (assignment, error) {
	var all assignment
	for _, word := range o.kernel {
		role, which, _ := strings.Cut(word, "=")
		image, err := kernels.Find(which)
		if err != nil {
			return nil, cannot(fmt.Errorf("--kernel %s: %w", word, err))
		}
		all = append(all, assigned{role, guest.Kind{Host: guest.Host{Agent: o.agent}, Kernel: image}})
	}
	return all, all.fit(o.tasks(files))
}

// fit wants each role to be one of every scenario.
func (a assignment) fit(tasks []task) error {
	for _, one := range a {
		for _, t := range tasks {
			nodes := t.scenario.Network.Nodes
			if slices.ContainsFunc(nodes, one.has) {
				continue
			}
			var names []string
			for _, n := range nodes {
				names = append(names, n.Name)
			}
			return cli.Usage(fmt.Errorf("--kernel %s=: %s has no such node; it has %s", one.role, t.file.Name, strings.Join(names, ", ")))
		}
	}
	return nil
}

// has reports whether a node has the role: by what the short form of topologies says or, where
// a file names its own nodes, by its name, with or without a number.
func (a assigned) has(n topo.Node) bool {
	return string(n.Role) == a.role || n.Name == a.role || strings.TrimRight(n.Name, "0123456789") == a.role
}

// kinds are the kinds of a scenario's nodes that are guests.
func (a assignment) kinds(s script.Scenario) map[string]topo.NodeKind {
	kinds := map[string]topo.NodeKind{}
	for _, n := range s.Network.Nodes {
		for _, one := range a {
			if one.has(n) {
				kinds[n.Name] = one.kind
			}
		}
	}
	return kinds
}

// withAgent runs the same command line in the sandbox, with a guest agent.
func (o *options) withAgent(ctx context.Context, files []scriptfile.File, stderr io.Writer) error {
	var all assignment
	for _, word := range o.kernel {
		role, which, _ := strings.Cut(word, "=")
		all = append(all, assigned{role: role})
		if _, err := (hackguest.Machine{Kernel: which}).Check(ctx); err != nil {
			return cannot(fmt.Errorf("--kernel %s: %w", word, err))
		}
	}
	if err := all.fit(o.tasks(files)); err != nil {
		return err
	}
	return cli.Temporary("twlab-run-", func(dir string) error {
		agent, err := agentFor(ctx, dir, kit.RoleArch, stderr)
		if err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		argv, err := cli.InSandbox(append([]string{self}, append(slices.Clone(os.Args[1:]), "--agent="+agent)...)...)
		if err != nil {
			return err
		}
		c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ourselves
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		_, status, err := cli.Child(c)
		if err == nil && status != 0 {
			err = cli.StatusError{Status: status}
		}
		return err
	})
}

// agentFor is the guest agent: what hack/build has left, or built in dir.
func agentFor(ctx context.Context, dir, arch string, stderr io.Writer) (string, error) {
	k, err := kit.Find()
	if err != nil {
		return "", err
	}
	if k.Built != "" {
		return k.Agent(arch)
	}
	if k.Tree == "" {
		return "", cannot(fmt.Errorf("there is neither a guest agent beside this program nor a tree to build one from: use what hack/build leaves"))
	}
	line := cli.NewProgress(stderr, 0)
	defer line.Close()
	line.Tell("building the guest agent", "")
	b := e2e.Builder{Tree: k.Tree, Temp: dir + "/tmp"}
	agent := dir + "/agent"
	if err := b.Begin(ctx); err != nil {
		return "", err
	}
	if err := b.Agent(ctx, agent, arch); err != nil {
		return "", err
	}
	return agent, b.End()
}
