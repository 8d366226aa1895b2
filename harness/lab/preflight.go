//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"twlab/harness/kernel"
	"twlab/harness/ns"
	"twlab/harness/observe"
	"twlab/harness/sandbox"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// Requirements lists what labs and their observations need from the machine. Each probe
// runs in namespaces of its own, so that probing changes nothing. Packages that plug into a
// lab have requirements of their own.
func Requirements() []kernel.Requirement { return append(needed(), useful()...) }

// needed lists the requirements of every lab.
func needed() []kernel.Requirement {
	return []kernel.Requirement{
		{
			Name:  "network namespaces",
			Hint:  "run hack/e2e, which enters a sandbox, or run as root",
			Probe: inNewNamespace(func(context.Context) (string, error) { return privileges(), nil }),
		},
		{
			Name: "iptables",
			Hint: "run hack/bootstrap",
			Probe: func(ctx context.Context) (kernel.Fact, string) {
				out, err := exec.CommandContext(ctx, "iptables", "--version").CombinedOutput()
				return fact(strings.TrimSpace(string(out)), err)
			},
		},
		{
			Name: "veth, MASQUERADE and the conntrack table",
			Hint: "run hack/bootstrap as root, which loads veth, xt_MASQUERADE and nf_conntrack_netlink; " +
				"or choose the other backend (update-alternatives --config iptables)",
			Probe: probeGateway,
		},
		{
			Name:  "control of clocks and sequence numbers",
			Hint:  "use a kernel with CONFIG_CHECKPOINT_RESTORE",
			Probe: probeRepair,
		},
		{
			Name: "packet capture",
			Hint: "load af_packet",
			Probe: inNewNamespace(func(context.Context) (string, error) {
				tap, err := observe.OpenTap("preflight", "lo")
				if err != nil {
					return "", err
				}
				return "", tap.Stop()
			}),
		},
	}
}

// useful lists the requirements of some specs.
func useful() []kernel.Requirement {
	return []kernel.Requirement{
		{
			Name: "TCP sysctls per namespace",
			Hint: "use Linux 4.19 or later; before, a node has the machine's own value of some sysctls, " +
				"and what needs another one there is skipped",
			Optional: true,
			Probe: inNewNamespace(func(context.Context) (string, error) {
				for _, name := range []string{"tcp_timestamps", "tcp_tw_reuse", "tcp_rfc1337", "tcp_fin_timeout"} {
					if _, err := kernel.ReadSysctl("net.ipv4." + name); err != nil {
						return "", err
					}
				}
				return "", nil
			}),
		},
		{
			Name:     "iptables DNAT to a share of the connections",
			Hint:     "load xt_statistic and xt_nat; specs with a balancer that is DNAT fail without",
			Optional: true,
			Probe: func(ctx context.Context) (kernel.Fact, string) {
				topology := Topology{Clients: 1, Servers: 2, Balancer: BalancerSpec{Kind: DNAT}}
				return fact("", inLab(ctx, topology, func(*Lab) error { return nil }))
			},
		},
		{
			Name: "IPv6, ip6tables and MASQUERADE of IPv6",
			Hint: "boot without ipv6.disable=1, run hack/bootstrap as root, which loads ip6table_nat; " +
				"networks with IPv6 cannot be built without",
			Optional: true,
			Probe: func(ctx context.Context) (kernel.Fact, string) {
				topology := Topology{Clients: 1, IP: topo.IPv6, Gateway: GatewaySpec{Kind: Masquerade}}
				return fact("", inLab(ctx, topology, func(*Lab) error { return nil }))
			},
		},
		{
			Name:     "PAWS rejects of TIME_WAIT counted by themselves",
			Hint:     "Linux before 6.16 counts them in TcpExt.PAWSEstab, and so do the specs then",
			Optional: true,
			Probe: inNewNamespace(func(context.Context) (string, error) {
				const name = "TcpExt.PAWSTimewait"
				counters, err := observe.ReadCounters()
				if _, has := counters[name]; err == nil && !has {
					err = fmt.Errorf("no counter %s", name)
				}
				return name, err
			}),
		},
	}
}

// fact turns the result of a probe into a fact: a refusal for lack of privilege says
// nothing about the feature.
func fact(detail string, err error) (kernel.Fact, string) {
	switch {
	case err == nil:
		return kernel.Yes, detail
	case errors.Is(err, fs.ErrPermission):
		return kernel.Unknown, err.Error()
	default:
		return kernel.No, err.Error()
	}
}

// inNewNamespace makes a probe from a function, which it runs in an empty namespace.
func inNewNamespace(try func(context.Context) (string, error)) func(context.Context) (kernel.Fact, string) {
	return func(ctx context.Context) (kernel.Fact, string) {
		space, err := ns.New()
		if err != nil {
			return fact("", err)
		}
		var detail string
		err = space.Do(func() error {
			detail, err = try(ctx)
			return err
		})
		return fact(detail, errors.Join(err, space.Close()))
	}
}

// privileges describes the user and the sandbox of this process, for people.
func privileges() string {
	who := "root"
	if os.Geteuid() != 0 {
		who = fmt.Sprintf("uid %d", os.Geteuid())
	}
	if os.Getenv(sandbox.Variable) != "" {
		who += " in the sandbox"
	}
	return who
}

// probeGateway builds the smallest lab with all three, and uses it.
func probeGateway(ctx context.Context) (kernel.Fact, string) {
	err := inLab(ctx, Topology{Clients: 1, Gateway: GatewaySpec{Kind: Masquerade}}, func(l *Lab) error {
		if _, err := connectOnce(ctx, l); err != nil {
			return err
		}
		flows, err := l.Gateway().Flows(ctx)
		if err != nil {
			return err
		}
		if len(flows) != 1 {
			return fmt.Errorf("conntrack lists %d connections, want 1", len(flows))
		}
		if got, want := flows[0].Reply.Dst.Addr(), l.Gateway().Identity().Addr; got != want {
			return fmt.Errorf("the gateway has its rule, but a connection leaves it as %v, not as %v", got, want)
		}
		return nil
	})
	return fact("", err)
}

func probeRepair(ctx context.Context) (kernel.Fact, string) {
	err := inLab(ctx, Topology{Clients: 1}, func(l *Lab) error {
		conn, err := connectOnce(ctx, l)
		if err != nil {
			return err
		}
		return l.Client(0).AdvanceClock(ctx, conn, 2)
	})
	return fact("TCP_REPAIR", err)
}

func inLab(ctx context.Context, t Topology, use func(*Lab) error) error {
	l, err := Build(ctx, t)
	if err != nil {
		return err
	}
	return errors.Join(use(l), l.Close())
}

// connectOnce connects the first client to the balancer.
func connectOnce(ctx context.Context, l *Lab) (tcp.Handle, error) {
	client := l.Client(0)
	listener, err := l.Balancer().Listen(ctx, tcp.ListenSpec{At: netip.AddrPortFrom(netip.Addr{}, 80)})
	if err != nil {
		return tcp.Handle{}, err
	}
	out, err := client.Connect(ctx, tcp.Attempt{To: listener.Addr})
	if err != nil {
		return tcp.Handle{}, err
	}
	if out.Outcome != tcp.Connected {
		return tcp.Handle{}, fmt.Errorf("%s: %v", client.Identity().Name, out)
	}
	return out.Conn, nil
}
