package scenarios

import (
	"slices"
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/scenarios/claim"
)

func read(t *testing.T, text string) []Question {
	t.Helper()
	questions, err := ReadQuestions(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return questions
}

func TestReadQuestions(t *testing.T) {
	questions := read(t, `
- name: our fleet
  family: tuple
  axes: {clock: older, path: eats-rst}
  sysctls:
    client: {net.ipv4.tcp_timestamps: 2}
    balancer: {net.ipv4.tcp_fin_timeout: 30, net.ipv4.tcp_rfc1337: 1}
- family: tuple
`)
	if len(questions) != 2 {
		t.Fatalf("%d questions, want 2", len(questions))
	}
	q := questions[0]
	if q.Name != "our fleet" || !q.Cell.Is("path", "eats-rst") || !q.Cell.Is("client-ts", "2") || !q.Cell.Is("rfc1337", "1") {
		t.Errorf("read %q %v", q.Name, q.Cell)
	}
	want := lab.Setting{Role: lab.Balancer, Name: "net.ipv4.tcp_fin_timeout", Value: "30"}
	if len(q.Cell.Extra) != 1 || q.Cell.Extra[0] != want {
		t.Errorf("extra sysctls %v, want %v", q.Cell.Extra, want)
	}
	if q := questions[1]; q.Name != "cell 2" || q.Family.Describe(q.Cell) != q.Family.Describe(q.Family.Usual()) {
		t.Errorf("read %q %v, want the usual cell", q.Name, q.Cell)
	}
}

func TestTitlesSayWhatIsSet(t *testing.T) {
	q := read(t, `
- family: exhaustion
  sysctls:
    client: {net.ipv4.tcp_tw_reuse_delay: 5000, net.ipv4.tcp_fin_timeout: 30}
- family: exhaustion
  sysctls:
    client: {net.ipv4.tcp_tw_reuse_delay: 1000}
`)
	for _, want := range []string{" reuse-delay=5000", " client:net.ipv4.tcp_fin_timeout=30"} {
		if title := q[0].Title(); !strings.Contains(title, want) || strings.Contains(title, "1000") {
			t.Errorf("title %q, want %q and no 1000", title, want)
		}
	}
	if got := claim.Judge(q[0].Family.Family, q[0].Cell, claim.Rule{}, claim.Seen{}).Cell["reuse-delay"]; got != "5000" {
		t.Errorf("the result says reuse-delay=%s, want 5000", got)
	}
	if title := q[1].Title(); !strings.Contains(title, " reuse-delay=1000") || q[1].Number != 2 {
		t.Errorf("cell %d: title %q, want reuse-delay=1000 in the second", q[1].Number, title)
	}
}

func TestNumbersOfOnesOwn(t *testing.T) {
	q := read(t, "- {family: ceiling, axes: {ports: 64, limit: gateway-ended}}")[0]
	if !q.Cell.Is("ports", "64") || q.Family.Topology(q.Cell).Gateway.Ports.Size() != 64 {
		t.Errorf("%s: want a gateway with 64 ports", q.Title())
	}
	if rule, covered, why := q.Rule(claim.Alike(kernel.FactsOf(kernel.Release{Major: 5, Minor: 10}))); rule.Name != "ceiling-ended" || !covered {
		t.Errorf("rule %q, covered %v (%s): want that of any other number", rule.Name, covered, why)
	}
	for _, f := range Families() {
		for _, k := range f.Needs {
			if !slices.ContainsFunc(f.All(), func(c claim.Cell) bool {
				return slices.ContainsFunc(f.Topology(c).Sysctls, k.Sets)
			}) {
				t.Errorf("family %s needs %s of the %s, and never sets it", f.Name, k.Sysctl, k.Role)
			}
		}
	}
}

func TestQuestionsBeyondTheRules(t *testing.T) {
	kernels := claim.Alike(kernel.FactsOf(kernel.Release{Major: 6, Minor: 18}))
	for _, c := range []struct {
		text, beyond string
	}{
		{"- {family: tuple, sysctls: {balancer: {net.ipv4.tcp_rfc1337: 1}}}", ""},
		{"- {family: tuple, sysctls: {balancer: {net.ipv4.tcp_fin_timeout: 60}}}", ""}, // as it is anyway
		{"- {family: tuple, sysctls: {balancer: {net.ipv4.tcp_fin_timeout: 30}}}", "net.ipv4.tcp_fin_timeout=30 on the balancer"},
		{"- {family: tuple, sysctls: {client: {net.ipv4.tcp_timestamps: 7}}}", "net.ipv4.tcp_timestamps=7 on the client"},
	} {
		rule, covered, reservation := read(t, c.text)[0].Rule(kernels)
		if rule.Name == "" || covered != (c.beyond == "") || !strings.Contains(reservation, c.beyond) {
			t.Errorf("%s: rule %q, covered %v, %q", c.text, rule.Name, covered, reservation)
		}
	}
}

func TestReadQuestionsSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "the file is empty"},
		{"# nothing\n", "the file is empty"},
		{"- family: [tuple\n", "not YAML"},
		{"family: tuple\n", "line 1: want a list of cells"},
		{"[]\n", "line 1: no cells"},
		{"- family: tuple\n---\n- family: tuple\n", "a second document"},
		{"- axes: {clock: older}\n", "line 1: a cell without family"},
		{"- family: tuples\n", `line 1: no family "tuples": want one of`},
		{"- family: tuple\n  colour: red\n", `line 2: unknown key "colour"`},
		{"- family: tuple\n  family: tuple\n", `line 2: "family" is given twice`},
		{"- family: tuple\n  axes:\n    clok: older\n", `line 3: family tuple has no axis "clok"`},
		{"- family: tuple\n  axes:\n    clock: late\n", `line 3: axis clock has no value "late": want one of older`},
		{"- family: tuple\n  axes: older\n", "line 2: axes: want"},
		{"- family: tuple\n  sysctls:\n    server: {net.ipv4.tcp_rfc1337: 1}\n", "line 3: topology: sysctl net.ipv4.tcp_rfc1337: no server"},
		{"- family: tuple\n  sysctls:\n    client: {tcp/rfc1337: 1}\n", `line 3: topology: sysctl "tcp/rfc1337"`},
		{
			"- family: tuple\n  axes: {rfc1337: 0}\n  sysctls:\n    balancer: {net.ipv4.tcp_rfc1337: 1}\n",
			"line 4: net.ipv4.tcp_rfc1337=1 contradicts rfc1337: 0",
		},
		{"- family: ceiling\n  axes: {ports: 65}\n", `line 2: axis ports has no value "65": want one of 48, 24; or any number from 8 to 256 in steps of 2`},
		{"- family: ceiling\n  axes: {ports: 1000}\n", `axis ports has no value "1000"`},
		{"- family: ceiling\n  axes: {ports: many}\n", `axis ports has no value "many"`},
		{
			"- family: ceiling\n  axes: {limit: gateway-ended}\n  sysctls:\n    gateway: {net.netfilter.nf_conntrack_tcp_timeout_time_wait: 30}\n",
			"line 4: family ceiling sets net.netfilter.nf_conntrack_tcp_timeout_time_wait=2 itself and depends on it",
		},
		{
			"- family: profile\n  axes: {profile: gcp}\n  sysctls:\n    gateway: {net.netfilter.nf_conntrack_tcp_timeout_time_wait: 60}\n",
			"line 4: family profile sets net.netfilter.nf_conntrack_tcp_timeout_time_wait=30 itself",
		},
		{"- family: tuple\n  axes: {client-ts: 0, clock: older}\n", "line 1: this cell is impossible: a SYN without a timestamp"},
		{"- family: tuple\n  a: 1\n- family: tuple\n  b: 1\n", `line 4: unknown key "b"`}, // all mistakes, not the first
	} {
		_, err := ReadQuestions(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
}
