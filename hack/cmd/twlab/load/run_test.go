package load

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// printed is what a run has printed: its first line, and its counts by what they are of.
type printed struct {
	first  string
	counts map[string]int64
	text   string
}

// loadOf runs the tool. It skips the test where there is no privilege to build a lab.
func loadOf(t *testing.T, arguments ...string) printed {
	t.Helper()
	var out, progress bytes.Buffer
	o, err := parse(arguments)
	if err != nil {
		t.Fatal(err)
	}
	err = o.run(t.Context(), &out, &progress)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_NET_ADMIN: run it with hack/test")
	}
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(arguments, " "), err)
	}
	p := printed{counts: map[string]int64{}, text: out.String()}
	p.first, _, _ = strings.Cut(p.text, "\n")
	for line := range strings.Lines(p.text) {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				p.counts[what] = n
			}
		}
	}
	return p
}

// check wants every number to be one that can be, and the sums to be right.
func (p printed) check(t *testing.T, closes string) {
	t.Helper()
	outcomes := int64(0)
	for _, what := range []string{"Connected", "TimedOut", "Undecided", "NoPort", "Refused", "Reset", "Unreachable"} {
		outcomes += p.counts[what]
	}
	if outcomes != p.counts["attempts"] || outcomes == 0 {
		t.Errorf("%d outcomes of %d attempts:\n%s", outcomes, p.counts["attempts"], p.text)
	}
	dispositions := -p.counts["counted too much"]
	for _, what := range []string{
		"accepted", "dropped by the gateway", "refused for the timestamp", "refused for the number", "dropped by the queue", "refused by the endpoint", "not accounted for",
	} {
		dispositions += p.counts[what]
	}
	if dispositions != p.counts["SYNs"] {
		t.Errorf("the account has %d SYNs, %d were sent:\n%s", dispositions, p.counts["SYNs"], p.text)
	}
	if got := p.counts["Connected"] - late(p.text); p.counts["attempts"]-got != p.counts["not at once"] {
		t.Errorf("%d attempts connected at once, and %d did not:\n%s", got, p.counts["not at once"], p.text)
	}
	for what, n := range p.counts {
		if n < 0 {
			t.Errorf("%s: %d\n%s", what, n, p.text)
		}
	}
	if closes == "never" && p.counts["refused for the timestamp"]+p.counts["refused for the number"] > 0 {
		t.Errorf("a TIME_WAIT has refused something, and there is none:\n%s", p.text)
	}
}

// late is how many attempts connected after repeating their SYN, as the run has printed it.
func late(text string) (n int64) {
	before, _, _ := strings.Cut(text, " late;")
	words := strings.Fields(before)
	n, _ = strconv.ParseInt(words[len(words)-1], 10, 64)
	return n
}

// Nothing is left over in a load that nobody disturbs, whoever closes first, whether the
// kernel or we give up.
func TestTheAccountComesOutEven(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for closes := range endings {
		for timeout, ip := range map[string]string{"0": "4", "4s": "6"} {
			ports := 4 + random.IntN(20)
			arguments := []string{
				"--ip", ip,
				"--clients", strconv.Itoa(1 + random.IntN(3)), "--each", strconv.Itoa(ports/2 + random.IntN(ports)), "--ports", strconv.Itoa(ports),
				"--conntrack-timeout", "60", "--close", closes, "--timeout", timeout, "--client-ts", strconv.Itoa(random.IntN(3)),
				"--client-sysctl", "net.ipv4.tcp_syn_retries=2", "--client-sysctl", "net.ipv4.tcp_syn_linear_timeouts=0",
				"--seed", strconv.Itoa(random.IntN(100)),
			}
			t.Run(closes+" "+timeout, func(t *testing.T) {
				t.Parallel()
				p := loadOf(t, arguments...)
				p.check(t, closes)
				if n := p.counts["not accounted for"] + p.counts["counted too much"]; n > 0 {
					t.Errorf("%s: %d SYNs too few or too many:\n%s", strings.Join(arguments, " "), n, p.text)
				}
			})
		}
	}
}

func TestAProfileKeepsItsCeiling(t *testing.T) {
	t.Parallel()
	const ports, timeout, load = 16, 5, 15
	p := loadOf(t, "--clients", "2", "--ports", strconv.Itoa(2*ports), "--per-client", strconv.Itoa(ports), "--conntrack-timeout", strconv.Itoa(timeout),
		"--rate", "20", "--for", fmt.Sprintf("%ds", load), "--client-sysctl", "net.ipv4.tcp_syn_retries=1", "--client-ts", "2")
	p.check(t, "balancer")
	for _, want := range []string{"16 ports for each client", "kept for 5 s", "16/5 s = 3.20/s for each client, 6.40/s for all 2", "offered 20/s"} {
		if !strings.Contains(p.first, want) {
			t.Errorf("the first line is %q, want %q in it", p.first, want)
		}
	}
	_, rest, _ := strings.Cut(p.text, "clients in ")
	text, _, _ := strings.Cut(rest, ",")
	took, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	// Each port is given away at most once in each conntrack timeout that has begun, and, as
	// there are always more who want one, at least once in each of the load's.
	const least = 2 * ports * (load / timeout)
	most := 2 * ports * (int64(took/(timeout*time.Second)) + 1)
	if n := p.counts["Connected"]; n < least || n > most {
		t.Errorf("%d connected, want %d to %d of %d:\n%s", n, least, most, p.counts["attempts"], p.text)
	}
	if p.counts["dropped by the gateway"] == 0 || p.counts["TimedOut"] == 0 {
		t.Errorf("want the gateway to drop SYNs, and attempts to time out:\n%s", p.text)
	}
}

func TestWhoGivesUpFirstIsTold(t *testing.T) {
	t.Parallel()
	arguments := []string{"--clients", "1", "--each", "12", "--ports", "8", "--close", "never"}
	p := loadOf(t, append(arguments, "--timeout", "1500ms")...)
	p.check(t, "never")
	if p.counts["Undecided"] != 4 || !strings.Contains(p.text, "no answer in 1.5 s (--timeout); this kernel would say ETIMEDOUT after about 1") {
		t.Errorf("got\n%s", p.text)
	}
	p = loadOf(t, append(arguments, "--client-sysctl", "net.ipv4.tcp_syn_retries=1")...)
	p.check(t, "never")
	if p.counts["TimedOut"] != 4 || !strings.Contains(p.text, "ETIMEDOUT after 3") {
		t.Errorf("got\n%s", p.text)
	}
}

func TestTheFirstLineSaysWhatDiffers(t *testing.T) {
	linux := gateway{clients: 2, ports: 64, each: true, timeout: 30 * time.Second, offered: 8, evicts: true}
	linux.kernel.Major, linux.kernel.Minor = 6, 18
	gcp := linux
	gcp.profile, gcp.wanted = "gcp", true
	broken := gcp
	broken.failed = errors.New("no NFQUEUE")
	old := gcp
	old.evicts, old.failed = false, broken.failed
	never := gcp
	never.timeout = 0
	for _, c := range []struct {
		name string
		g    gateway
		want string
	}{
		{"prevented", gcp, "64 ports for each client, each kept for 30 s after the end of a connection. Ceiling: 64/30 s = 2.13/s for each client, 4.27/s for all 2; offered 8.00/s"},
		{"not to be prevented", broken, "gateway: Linux 6.18 takes ports of ended connections before their 30 s are over (since 6.5). The gateway of gcp does not, but this could " +
			"not be prevented here (no NFQUEUE). Ceiling without it: 64/30 s = 2.13/s for each client, 4.27/s for all 2; offered 8.00/s"},
		{"a kernel that does not", old, "each kept for 30 s"},
		{"Linux itself", linux, "Like Linux since 6.5, it takes ports of ended connections before their 30 s are over if no other port is free: no ceiling"},
		{"no end", never, "room for 128 in all"},
	} {
		if got := c.g.String(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q in it", c.name, got, c.want)
		}
	}
}

// Each attempt that did not connect at once has a cause, or is among those that have none; and of
// each cause one is shown.
func TestEveryAttemptThatFailsIsExplained(t *testing.T) {
	t.Parallel()
	p := loadOf(t, "--clients", "2", "--each", "12", "--ports", "8", "--close", "never",
		"--client-sysctl", "net.ipv4.tcp_syn_retries=1", "--client-sysctl", "net.ipv4.tcp_syn_linear_timeouts=0")
	if n := p.counts["not at once"]; n != 16 || p.counts["snat-exhausted"]+p.counts["unexplained"] != n || p.counts["unexplained"] != 0 {
		t.Errorf("%d attempts did not connect at once:\n%s", n, p.text)
	}
	for _, want := range []string{"one of 16, snat-exhausted (proved):", "proof: Conntrack.insert_failed of gateway rose by 32, packets to account for: 32", "─ SYN ──"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("want %q in\n%s", want, p.text)
		}
	}
}

// What would take too much memory is left out, with a sentence.
func TestWhatIsNotExplained(t *testing.T) {
	t.Parallel()
	arguments := []string{"--each", "1", "--close", "rst", "--clients"}
	if p := loadOf(t, append(arguments, "101")...); !strings.Contains(p.text, "the links of 101 clients are not recorded") || strings.Contains(p.text, "not at once") {
		t.Errorf("101 clients:\n%s", p.text)
	}
	if p := loadOf(t, append(arguments, "1", "--each", "2001")...); !strings.Contains(p.text, "would make this load slower (--explain yes)") {
		t.Errorf("2001 attempts at once:\n%s", p.text)
	}
	if p := loadOf(t, append(arguments, "2", "--explain", "no")...); strings.Contains(p.text, "not at once") {
		t.Errorf("nobody asked for it:\n%s", p.text)
	}
}
