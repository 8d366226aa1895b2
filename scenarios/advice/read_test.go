package advice

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func read(t *testing.T, text string) File {
	t.Helper()
	f, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return f
}

func TestSettings(t *testing.T) {
	for line, want := range map[string]Setting{
		"net.ipv4.tcp_tw_reuse=1":                  {1, "net.ipv4.tcp_tw_reuse", "1", false},
		"\ufeffnet.ipv4.tcp_tw_reuse = 1":          {1, "net.ipv4.tcp_tw_reuse", "1", false},
		"  net.ipv4.tcp_tw_reuse\t=\t1  \r":        {1, "net.ipv4.tcp_tw_reuse", "1", false},
		"\n# x\n;y\n\nnet.ipv4.tcp_tw_reuse = 1":   {5, "net.ipv4.tcp_tw_reuse", "1", false},
		"-net.ipv4.tcp_tw_recycle = 1":             {1, "net.ipv4.tcp_tw_recycle", "1", true},
		"net/ipv4/tcp_tw_reuse = 1":                {1, "net.ipv4.tcp_tw_reuse", "1", false},
		"/proc/sys/net/ipv4/tcp_tw_reuse = 1":      {1, "net.ipv4.tcp_tw_reuse", "1", false},
		"net/ipv4/conf/eth0.1/forwarding=1":        {1, "net.ipv4.conf.eth0/1.forwarding", "1", false},
		"net.ipv4.conf.eth0/1.forwarding=1":        {1, "net.ipv4.conf.eth0/1.forwarding", "1", false},
		"net.ipv4.ip_local_port_range = 1024\t\t9": {1, "net.ipv4.ip_local_port_range", "1024 9", false},
		"kernel.core_pattern = |/bin/x=%p y":       {1, "kernel.core_pattern", "|/bin/x=%p y", false},
		"net.ipv4.ip_local_reserved_ports = ":      {1, "net.ipv4.ip_local_reserved_ports", "", false},
		"net.ipv4.conf.*.rp_filter = 1":            {1, "net.ipv4.conf.*.rp_filter", "1", false},
	} {
		f := read(t, line+"\n-net.ipv4.conf.eth0.rp_filter\n")
		if len(f.Mistakes) > 0 || !slices.Equal(f.Settings, []Setting{want}) {
			t.Errorf("%q: %+v, want %+v", line, f, want)
		}
	}
}

func TestLinesThatAreNoSettings(t *testing.T) {
	for line, want := range map[string]string{
		"net.ipv4.tcp_tw_reuse 1":                    `"net.ipv4.tcp_tw_reuse 1" is no setting: want NAME = VALUE; meant: net.ipv4.tcp_tw_reuse = 1?`,
		"net.ipv4.tcp_tw_reuse: 1":                   `meant: net.ipv4.tcp_tw_reuse = 1?`,
		"sysctl -w net.ipv4.tcp_tw_reuse=1":          `meant: net.ipv4.tcp_tw_reuse = 1?`,
		"echo 1 > /proc/sys/net/ipv4/tcp_tw":         `is no setting: want NAME = VALUE`,
		"tcp_tw_reuse = 1":                           `near it: tcp_tw_reuse`,
		"tcp_tw_ruse":                                `near it: tcp_tw_reuse`,
		"[Unit]":                                     `"[Unit]" is no setting`,
		"= 1":                                        `"= 1" is no setting`,
		"net.ipv4.\x1b[31mtcp_x = 1":                 "\"net.ipv4.\ufffd[31mtcp_x = 1\" is no setting",
		"net.ipv4.\u202etcp_x = 1":                   "\"net.ipv4.\ufffdtcp_x = 1\" is no setting",
		"net.ipv4.x" + strings.Repeat("\u00e4", 300): `..." is no setting`,
	} {
		f := read(t, line)
		if len(f.Settings) > 0 || len(f.Mistakes) != 1 || !strings.Contains(f.Mistakes[0].Text, want) {
			t.Errorf("%q: %+v, want %q", line, f, want)
		}
	}
}

func TestFilesThatAreNotRead(t *testing.T) {
	for text, want := range map[string]error{
		"": ErrEmpty, "# nothing\n\n;": ErrEmpty, "-net.ipv4.conf.eth0.rp_filter": ErrEmpty,
		"\x7fELF\x00\x00": ErrNoText, "n\x00e\x00t\x00": ErrNoText, "\xff\xfe": ErrNoText,
		strings.Repeat("net.ipv4.tcp_tw_reuse = 1\n", MostBytes/20): ErrTooLarge,
	} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, want) {
			t.Errorf("%.30q: %v, want %v", text, err, want)
		}
	}
}

// Whatever a file has, nothing of it reaches a terminal that the terminal would act on, and
// each line is said once.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"net.ipv4.tcp_tw_reuse = 1\n-net.ipv4.tcp_tw_recycle=1\n;x\n#y\nnet/ipv4/x = 1", "net.ipv4.ip_local_port_range = 0x400 65535\n",
		"net.ipv4.tcp_fin_timeout = \x1b[2J\n", "a=b=c\n\r\n==", "net.ipv4.tcp_max_tw_buckets = 99999999999999999999", "net.ipv4.tcp_tw_reus\t1",
		"net.ipv4.tcp_timestamps=0\nnet.ipv4.tcp_tw_reuse=1\nnet.ipv4.tcp_tw_reuse=2", "net.core.somaxconn = -9223372036854775808",
	} {
		f.Add(seed)
	}
	about := For{Facts: factsOf(f, "6.18"), All: true}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteText(&out, Check(file, about)); err != nil {
			t.Fatal(err)
		}
		for _, m := range file.Mistakes {
			out.WriteString(m.Text)
		}
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%q is printed: %q", r, &out)
			}
		}
		if lines := strings.Count(text, "\n") + 1; len(file.Settings)+len(file.Mistakes) > lines {
			t.Errorf("%d settings and %d mistakes in %d lines", len(file.Settings), len(file.Mistakes), lines)
		}
	})
}
