package scriptfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// hostile are files of somebody who wants to do more than a scenario may, or to keep its reader
// busy: the good file with a part of it spoilt, or without such a part another file.
var hostile = []spoilt{
	{"HAProxy external-check", "server: {}}", `server: {haproxy: {servers: ["client:80"], external-check: command}}}`, `unknown key "external-check"`},
	{"HAProxy lua-load", "server: {}}", `server: {haproxy: {servers: ["client:80"], lua-load: /tmp/x.lua}}}`, `unknown key "lua-load"`},
	{"HAProxy log", "server: {}}", `server: {haproxy: {servers: ["client:80"], log: /dev/log}}}`, `unknown key "log"`},
	{"HAProxy chroot", "server: {}}", `server: {haproxy: {servers: ["client:80"], chroot: /}}}`, `unknown key "chroot"`},
	{"HAProxy stats socket", "server: {}}", `server: {haproxy: {servers: ["client:80"], stats: socket /tmp/s}}}`, `unknown key "stats"`},
	{"a line of HAProxy's", "server: {}}", `server: {haproxy: {servers: ["client:80\nlua-load x"]}}}`, "want a port from 1 to 65535 after the colon"},
	{"BPF object", "server: {}}", `server: {rules: [filter INPUT -m bpf --object-pinned /sys/fs/bpf/x -j DROP]}}`, "-m bpf: a scenario may use"},
	{"cgroup", "server: {}}", `server: {rules: [filter INPUT -m cgroup --path x -j DROP]}}`, "-m cgroup: a scenario may use"},
	{"owner", "server: {}}", `server: {rules: [filter OUTPUT -m owner --uid-owner 0 -j DROP]}}`, "-m owner: a scenario may use"},
	{"log of the machine", "server: {}}", `server: {rules: [filter INPUT -p tcp -j LOG]}}`, "-j LOG: a scenario may use"},
	{"queue to a program", "server: {}}", `server: {rules: [filter INPUT -p tcp -j NFQUEUE]}}`, "-j NFQUEUE: a scenario may use"},
	{"queue, in one word", "server: {}}", `server: {rules: [filter INPUT -p tcp -jNFQUEUE]}}`, "option -jNFQUEUE: a rule may have"},
	{"queue, with a sign", "server: {}}", `server: {rules: [filter INPUT -p tcp --jump=NFQUEUE]}}`, "option --jump=NFQUEUE: put a space"},
	{"queue, abbreviated", "server: {}}", `server: {rules: [filter INPUT -p tcp --jum NFQUEUE]}}`, "option --jum: it is none"},
	{"a program for modules", "server: {}}", `server: {rules: [filter INPUT -M /tmp/x -j DROP]}}`, "option -M: a rule may have"},
	{"a program, long", "server: {}}", `server: {rules: [filter INPUT --modprobe /tmp/x -j DROP]}}`, "option --modprobe: it is none"},
	{"a program, abbreviated", "server: {}}", `server: {rules: [filter INPUT --modp /tmp/x -j DROP]}}`, "option --modp: it is none"},
	{"another command", "server: {}}", `server: {rules: [filter INPUT -p tcp -j DROP --flush INPUT]}}`, "option --flush: it is none"},
	{"another table by option", "server: {}}", `server: {rules: [filter INPUT -t nat -j DROP]}}`, "option -t: a rule may have"},
	{"a helper's module", "server: {}}", `server: {rules: [raw PREROUTING -p tcp -j CT --helper ftp]}}`, "loads a module for the whole machine"},
	{"quotes", "server: {}}", `server: {rules: ['filter INPUT -m comment --comment "a b" -j DROP']}}`, "in a rule: letters, digits"},
	{"a line end", "server: {}}", `server: {rules: ["filter INPUT -p tcp\n-A X -j DROP;reboot$(x)"]}}`, "in a rule: letters, digits"},
	{"a shell", "server: {}}", "server: {rules: ['filter INPUT -p tcp -j DROP `reboot`']}}", "in a rule: letters, digits"},
	{"another table", "server: {}}", `server: {rules: [security INPUT -p tcp -j DROP]}}`, "want table, chain and rule"},
	{"a chain of one's own", "server: {}}", `server: {rules: [filter EVIL -p tcp -j DROP]}}`, "want table, chain and rule"},
	{"a rule in a step", "steps:", "steps:\n  - add-rule: {node: server, rule: filter INPUT --modprobe /tmp/x -j DROP}", "option --modprobe: it is none"},
	{"core_pattern", "server: {}}", `server: {sysctls: {kernel.core_pattern: "|/bin/x"}}}`, "only sysctls below net."},
	{"core_pattern later", "steps:", "steps:\n  - set: {node: server, sysctls: {kernel.core_pattern: x}}", "only sysctls below net."},
	{"a way out of net", "server: {}}", `server: {sysctls: {"net.\n../kernel/core_pattern": x}}}`, "only sysctls below net."},
	{"a path as a name", "client: {}", "../../etc: {}", "the name of a node has small letters"},
	{"a command as a name", "client: {}", "client;reboot: {}", "the name of a node has small letters"},
	{"a path as an id", "    expect:", "    id: ../../x\n    expect:", "an id has letters"},
	{"a path as an address", "{vip: {owner", "{../vip: {owner", "the name of an address has letters"},
	{"escapes", "name: a client and a server", `name: "\e[2J a client"`, "a control character"},
	{"text that runs backwards", "name: a client and a server", `name: "\u009b2J a client"`, "a control character"},
	{"10^9 nodes", "client: {}", "client: {count: 1000000000}", "more than 2000 nodes"},
	{"a mesh", "client: {}, gateway: {snat: {towards: server}}", "client: {count: 900}, gateway: {count: 900}", "more than 4000 links"},
	{"10^9 attempts", "to: vip:80}", "to: vip:80, count: 1000000000}", "want 0 to 100000"},
	{"a request of 2 GB", "  - connect: {from: client, to: vip:80}", "  - exchange: {from: client, to: vip:80, body: 2000000000}", "want 0 to 1073741824"},
	{"a million steps", "steps:", "steps:" + strings.Repeat("\n  - sleep: 1s", 8000), "8002 steps: a scenario has at most 1000"},
	{"a deep value", "name: a client and a server", "name: " + strings.Repeat("[", 500) + strings.Repeat("]", 500), "too deep"},
	{"many variants", "name:", "params: {a: [1, 2, 3, 4, 5], b: [1, 2, 3, 4, 5], c: [1, 2, 3, 4, 5]}\nname:", "more than 64 combinations"},
	{"a year", "    expect:", "    after: 8760h\n    expect:", "longer than a day"},
	{"a bomb", "name:", "a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\nname:", "an anchor (&a)"},
	{"an anchor of itself", "client: {}", "client: &a {routes: *a}", "an anchor (&a)"},
	{"a merge key", "client: {}", "client: {<<: {count: 2}}", `unknown key "<<"`},
	{"a tag", "port: 80", "port: !!binary ODA=", "a tag (!!binary)"},
	{"a tag of Python's", "name: a client and a server", "name: !!python/object/apply:os.system [reboot]", "a tag (!!python/object/apply:os.system)"},
	{"two documents", "steps:", "---\nsteps:", "a second document begins"},
	{"tabs", "  nodes:", "\tnodes:", "indent by spaces"},
	{"a NUL", "name: a", "name: \x00a", "this is no text"},
	{"Latin-1", "name: a", "name: \xe4", "this is no text"},
	{"UTF-16", "", utf16Of(good), "this is no text"},
	{"a program", "", "\x7fELF\x02\x01\x01\x00\x00", "this is no text"},
	{"nothing", "", "", "the file is empty"},
	{"comments alone", "", "# twlab: 1\n", "the file is empty"},
	{"a text alone", "", "twlab", `a scenario is "key: value" pairs`},
	{"10 MB", "", good + strings.Repeat("# a comment\n", 1<<20), "too long: a scenario has at most"},
	{"an expectation that cannot fail", "{outcome: Connected,", "{outcomes: {Connected: 0..1},", "<= 1 of 1: this cannot fail"},
	{"a counter that cannot fall", "still", `">= 0"`, "this cannot fail"},
	{"a step that waits for itself", "steps:", "steps:\n  - await: me\n    id: me", "it would wait for ever"},
	{"steps that wait for each other", "steps:", "steps:\n  - {await: b, id: a, background: true}\n  - {await: a, id: b, background: true}", `no step "b" so far`},
}

// spoilt is a file that is wrong.
type spoilt struct{ name, old, spoilt, want string }

func (s spoilt) text() []byte {
	if s.old == "" {
		return []byte(s.spoilt)
	}
	return []byte(strings.Replace(good, s.old, s.spoilt, 1))
}

func utf16Of(text string) string {
	var b bytes.Buffer
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return b.String()
}

func TestAFileOfAStrangerIsData(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			if string(c.text()) == good {
				t.Fatalf("the file does not have %q", c.old)
			}
			began := time.Now()
			_, err := Read("x.yaml", c.text())
			mistakes := new(MistakesError)
			if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%.400s\nwant %s", fmt.Sprint(err), c.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\u009b\x00") {
				t.Errorf("the error has a control character: %q", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	if len(hostile) < 35 {
		t.Errorf("%d files, want at least 35", len(hostile))
	}
}

func TestOtherWaysToWriteTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"Windows line ends": strings.ReplaceAll(good, "\n", "\r\n"), "a byte order mark": "\ufeff" + good, "no line end": strings.TrimSpace(good),
	} {
		if _, err := Read("x.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A device or a pipe is read no further than a file may be long.
func TestAFileWithoutAnEnd(t *testing.T) {
	if _, err := ReadAll([]string{"/dev/zero"}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%v, want that it is too long", err)
	}
}

// BenchmarkCheck reads as many files as a large project may have.
func BenchmarkCheck(b *testing.B) {
	names, err := filepath.Glob("../../scenarios/incidents/*.yaml")
	if err != nil || len(names) == 0 {
		b.Fatalf("%v, %v", names, err)
	}
	var texts [][]byte
	for len(texts) < 200 {
		text, err := os.ReadFile(names[len(texts)%len(names)])
		if err != nil {
			b.Fatal(err)
		}
		texts = append(texts, text)
	}
	for b.Loop() {
		for _, text := range texts {
			if _, err := Read("x.yaml", text); err != nil {
				b.Fatal(err)
			}
		}
	}
}
