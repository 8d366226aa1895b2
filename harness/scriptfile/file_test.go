package scriptfile

import (
	"errors"
	"strings"
	"testing"
)

// good is a file that is right; tests spoil a part of it.
const good = `twlab: 1
name: a client and a server
topology:
  nodes: {client: {}, gateway: {snat: {towards: server}}, server: {}}
  links: [client -- gateway, server -- gateway]
  addresses: {vip: {owner: server}}
steps:
  - listen: {node: server, port: 80}
  - connect: {from: client, to: vip:80}
    expect: {outcome: Connected, counters: {server: {Tcp.OutRsts: still}}}
`

func TestAFileThatIsRight(t *testing.T) {
	f, err := Read("good.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Scenarios) != 1 || len(f.Scenarios[0].Steps) != 2 || len(f.Scenarios[0].Network.Nodes) != 3 {
		t.Errorf("read %+v", f.Scenarios)
	}
	if windows, err := Read("good.yaml", []byte(strings.ReplaceAll(good, "\n", "\r\n"))); err != nil || len(windows.Scenarios) != 1 {
		t.Errorf("with Windows line ends: %v", err)
	}
}

func TestParametersMakeVariants(t *testing.T) {
	text := strings.Replace(good, "topology:", "params: {p: [80, 81], q: [1ms]}\ntwins: {late: {q: 2s}}\ntopology:", 1)
	text = strings.Replace(text, "port: 80", "port: \"${p}\"", 1) + "  - sleep: \"${q}\"\n"
	f, err := Read("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range append(f.Scenarios, f.Twins...) {
		names = append(names, s.Name)
	}
	want := "a client and a server [p=80], a client and a server [p=81], a client and a server [twin: late]"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("variants %s, want %s", got, want)
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ name, old, spoilt, want string }{
		{"no version", "twlab: 1\n", "", `:1:1: the first key is "twlab: 1"`},
		{"another version", "twlab: 1", "twlab: 2", `:1:8: version "2" of the format: this program reads 1`},
		{"no name", "name: a client and a server\n", "", `a scenario needs "name"`},
		{"unknown key", "  - listen:", "  - lisen:", `:8:5: unknown key "lisen" in a step; did you mean "listen"?`},
		{"misplaced key", "name:", "links: []\nname:", `:2:1: unknown key "links" in a scenario; it belongs to topology`},
		{"twice", "name:", "name: x\nname:", `:3:1: "name" is given twice`},
		{"empty", "name: a client and a server", "name:", `:2:1: "name" has no value`},
		{"anchor", "client: {}", "client: &a {}", `an anchor (&a)`},
		{"alias", "server: {}}", "server: {}, x: *a}", `not YAML`},
		{"tag", "port: 80", "port: !!int 80", `a tag (!!int)`},
		{"second document", "steps:", "---\nsteps:", `a second document begins`},
		{"tab", "  nodes:", "\tnodes:", `a tab? indent by spaces`},
		{"control character", "name: a", "name: \x1b[31ma", `:2:1: this is no text`},
		{"no UTF-8", "name: a", "name: \xff", `:2:1: this is no text`},
		{"yes", "port: 80}", "port: 80, reuse-port: yes}", `"yes": want true or false`},
		{"octal", "port: 80}", "port: 0120}", `"0120": want a port from 1 to 65535`},
		{"no unit", "    expect:", "    after: 400\n    expect:", `:10:12: 400 is no duration: say 400ms or 400s`},
		{"no verb", "  - listen: {node: server, port: 80}", "  - id: x", `a step without a verb`},
		{"two verbs", "  - listen: {node: server, port: 80}", "  - listen: {node: server, port: 80}\n    sleep: 1s", `two verbs in one step, listen and sleep`},
		{"no node", "node: server", "node: sever", `:8:20: no node "sever": there are client, gateway and server`},
		{"no address", "to: vip:80", "to: vipp:80", `:9:33: no node or address "vipp"`},
		{"no port", "to: vip:80", "to: vip", `which port of vip? Say vip:80`},
		{"outcome", "Connected", "connected", `:10:23: no outcome "connected"`},
		{"undecided", "Connected", "Undecided", `it cannot be expected`},
		{"bound", "still", "some", `"some": want 3, ">= 3"`},
		{"cannot fail", "still", `">= 0"`, `this cannot fail`},
		{"nothing expected", "    expect: {outcome: Connected, counters: {server: {Tcp.OutRsts: still}}}\n", "", `nothing is expected of any step`},
		{"parameter", "port: 80}", `port: "${p}"}`, `no parameter "p": there are none`},
		{"part of a value", "name: a client", "params: {p: [1]}\nname: a ${p} client", `a parameter stands for a whole value`},
		{"unused parameter", "name:", "params: {p: [1]}\nname:", `:2:10: no value says ${p}`},
		{"unused address", "to: vip:80", "to: server:80", `:6:15: nothing names the address "vip"`},
		{"link to nobody", "client -- gateway,", "client -- gatway,", `:5:11: no node "gatway"`},
		{"both forms", "  nodes:", "  clients: 2\n  nodes:", `either clients, gateway, balancer and servers, or nodes and links`},
		{"neighbour", "towards: server", "towards: vip", `no link to it`},
		{"name of a node", "client: {}", "Client: {}", `the name of a node has small letters`},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := strings.Replace(good, c.old, c.spoilt, 1)
			if wrong == good {
				t.Fatalf("the file does not have %q", c.old)
			}
			_, err := Read("x.yaml", []byte(wrong))
			mistakes := new(MistakesError)
			if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestKeysAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		seen[k.Path] = true
		if k.Takes == "" || !strings.HasSuffix(k.Means, ".") {
			t.Errorf("%s takes %q: %q: want a sentence", k.Path, k.Takes, k.Means)
		}
	}
	for _, path := range []string{"name", "topology.nodes.NAME.snat.towards", "steps.connect.from", "steps.expect.sockets.state", "steps.listen.http.reads"} {
		if !seen[path] {
			t.Errorf("no key %s among %d", path, len(seen))
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(good))
	for _, c := range hostile {
		if text := c.text(); len(text) < 10_000 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Read("x.yaml", text)
		if err != nil {
			return
		}
		for _, s := range got.Scenarios {
			if wrong := s.Check(); len(wrong) > 0 {
				t.Errorf("read without an error, but %v", wrong[0])
			}
		}
	})
}
