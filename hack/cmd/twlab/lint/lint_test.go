package lint

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twlab/hack/internal/cli"
	"twlab/harness/kernel"
)

var update = flag.Bool("update", false, "write the golden files anew")

// run is what the command says, and its exit status.
func run(t *testing.T, input string, words ...string) (out string, status int) {
	t.Helper()
	var b bytes.Buffer
	c := Command()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetIn(strings.NewReader(input))
	c.SetOut(&b)
	c.SetErr(&b)
	c.SetArgs(words)
	err := c.Execute()
	status = cli.Report(&b, c, err)
	return b.String(), status
}

func TestFilesThatAreCopiedAround(t *testing.T) {
	for name, words := range map[string][]string{
		"busy-web-server.conf": {"--kernel", "6.18"}, "hardening.conf": {"--kernel", "6.1"}, "load-test-client.conf": {"--kernel", "7.0"},
		"nat-gateway.conf": {"--kernel", "6.12", "--role", "gateway"}, "sysctl-a-4.9.txt": {"--kernel", "4.9", "--role", "server"},
	} {
		path := filepath.Join("testdata", name)
		got, status := run(t, "", append(words, path)...)
		if status != cli.Failed {
			t.Errorf("%s: status %d", name, status)
		}
		golden := path + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestExitStatuses(t *testing.T) {
	for name, c := range map[string]struct {
		input, words string
		status       int
		want         string
	}{
		"nothing to say":     {"net.ipv4.tcp_timestamps = 1\n", "--kernel 6.1 -", 0, "nothing to say, of 1 settings"},
		"a note":             {"net.ipv4.tcp_tw_reuse = 1\n", "--kernel 6.1 --role client -", 0, "1 note, of 1 settings"},
		"defaults for all":   {"net.ipv4.tcp_timestamps = 1\n", "--kernel 6.1 --all -", 0, "This is the kernel's default."},
		"a finding":          {"net.ipv4.tcp_rfc1337 = 1\n", "--kernel 6.1 -", 1, "1 danger, of 1 settings"},
		"of another role":    {"net.ipv4.tcp_rfc1337 = 1\n", "--kernel 6.1 --role client -", 0, "nothing to say"},
		"a line is wrong":    {"net.ipv4.tcp_rfc1337 1\n", "--kernel 6.1 -", 2, "meant: net.ipv4.tcp_rfc1337 = 1?\nlint: not all lines are settings: 1\n"},
		"no file":            {"", "--kernel 6.1", 2, "which file?"},
		"two files":          {"", "a b", 2, "which file?"},
		"file is not there":  {"", "/nowhere.conf", 2, "lint: cannot read '/nowhere.conf': no such file or directory\n"},
		"file is a folder":   {"", "testdata", 2, "lint: testdata: is a directory\n"},
		"empty":              {"", "-", 2, "lint: the standard input: no setting in it: "},
		"binary":             {"\x7fELF\x00", "-", 2, "lint: the standard input: not a text: "},
		"role is unknown":    {"", "--role gatway -", 2, `no role "gatway"; near it: gateway; it is one of balancer, client, `},
		"release is unknown": {"", "--kernel 2.6.32 -", 2, "--kernel: nothing is known here of Linux 2.6: want a release from 3.16 to 7.2"},
		"kernel by its name": {"", "--kernel debian-6.1 -", 2, `"debian-6.1" is no release`},
		"escape in a name":   {"", "\x1b[31m.conf", 2, "cannot read '\ufffd[31m.conf'"},
	} {
		got, status := run(t, c.input, strings.Fields(c.words)...)
		if status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: status %d, want %d and %q:\n%s", name, status, c.status, c.want, got)
		}
	}
}

func TestTheRunningKernel(t *testing.T) {
	for text, want := range map[string]string{
		"6.18.44-x": "Linux 6.18 (the running one)", "3.10.0-1160.el7": "name another one, from 3.16 on, by --kernel",
		"8.1.0": "Linux 7.2 (the newest known here: the running one, 8.1, is newer)",
	} {
		r, err := kernel.ParseRelease(text)
		if err != nil {
			t.Fatal(err)
		}
		k, err := here(r)
		if got := errors.Join(err, errors.New(k.words)).Error(); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
