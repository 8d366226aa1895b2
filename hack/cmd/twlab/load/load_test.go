package load

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"twlab/hack/internal/cli"
	"twlab/harness/lab"
	"twlab/harness/load"
	"twlab/harness/tcp"
	"twlab/harness/topo"
)

// parse reads a command line.
func parse(arguments []string) (options, error) {
	var r request
	flags := pflag.NewFlagSet("load", pflag.ContinueOnError)
	r.flags(flags)
	if err := flags.Parse(arguments); err != nil {
		return options{}, err
	}
	return r.options()
}

func TestWrongFlagsAreOneClearError(t *testing.T) {
	for arguments, want := range map[string]string{
		"--profile nobody":                       `no profile "nobody": want one of linux,`,
		"--close maybe":                          "--close maybe: want one of balancer, client, never, rst",
		"--ports 70000":                          "--ports 70000: want 1 to 64512",
		"--explain maybe":                        "--explain maybe: want yes, no or auto",
		"--ip both":                              "--ip both: want one of 4, 6",
		"--random maybe":                         "--random maybe: want no, yes or fully",
		"--conntrack-timeout -1":                 "--conntrack-timeout -1: want seconds",
		"--per-client 4":                         "4 ports for each client: out of which range?",
		"--profile carrier --clients 65":         "enough for 64 clients",
		"--client-sysctl net.ipv4.tcp_tw_reuse":  "want net.some.name=value",
		"--clients 0":                            "0 clients: want at least 1",
		"--rate many":                            "invalid argument",
		"--ports 100 --per-client 4 --clients 9": "",
	} {
		_, err := parse(strings.Fields(arguments))
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", arguments, err, want)
		}
	}
}

func TestProfileAndFlagsMakeTheLab(t *testing.T) {
	o, err := parse(strings.Fields("--profile gcp --clients 3 --close rst --balancer-ts 0 --conntrack-timeout 7 --ip 6"))
	if err != nil {
		t.Fatal(err)
	}
	g := o.topology.Gateway
	if g.PerClient != 64 || g.Ports.Size() != 3*64 || g.Random != lab.Random || o.plan.Attempt.Ending != tcp.Abort || o.topology.IP != topo.IPv6 {
		t.Errorf("got %+v, ending %q and %q", g, o.plan.Attempt.Ending, o.topology.IP)
	}
	set := map[string]string{}
	for _, s := range o.topology.Sysctls {
		set[string(s.Role)+" "+s.Name] = s.Value
	}
	if set["gateway net.netfilter.nf_conntrack_tcp_timeout_time_wait"] != "7" || set["balancer net.ipv4.tcp_timestamps"] != "0" {
		t.Errorf("the sysctls are %v, want --conntrack-timeout over the profile's, and --balancer-ts", set)
	}
}

func TestWhoKeepsPortsForTheWholeTimeout(t *testing.T) {
	for arguments, want := range map[string]bool{
		"":                                      false, // as the kernel does
		"--ports 64":                            false,
		"--conntrack-timeout 30":                true,
		"--profile gcp":                         true,
		"--profile linux":                       false,
		"--profile linux --conntrack-timeout 5": false,
		"--profile aws":                         false, // nobody says for how long
		"--profile aws --conntrack-timeout 30":  true,
	} {
		o, err := parse(strings.Fields(arguments))
		if err != nil || o.keeps != want {
			t.Errorf("%q: keeps %v (%v), want %v", arguments, o.keeps, err, want)
		}
	}
}

func TestProgressIsOneLineForTerminalsOnly(t *testing.T) {
	var out bytes.Buffer
	if cli.IsTerminal(&out) {
		t.Error("a buffer is no terminal")
	}
	line := progressLine{to: &out}
	line.clear()
	if out.Len() > 0 {
		t.Errorf("nothing was shown, and %q cleared", out.String())
	}
	line.show(load.Row{At: time.Second, Begun: 3})
	line.clear()
	if text := out.String(); strings.Contains(text, "\n") || !strings.Contains(text, "1.0 s: 3 begun") {
		t.Errorf("progress is %q, want one line that is cleared in the end", text)
	}
}
