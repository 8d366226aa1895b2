package advice

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/topo"
)

func factsOf(t testing.TB, release string) kernel.Facts {
	t.Helper()
	r, err := Release(release)
	if err != nil {
		t.Fatal(err)
	}
	return kernel.FactsOf(r)
}

// levels are those of the findings about a text, with their lines: "2 error".
func levels(t *testing.T, release, text string) (all []string) {
	t.Helper()
	for _, f := range Check(read(t, text), For{Facts: factsOf(t, release)}) {
		all = append(all, fmt.Sprint(f.Setting.Line, " ", f.Level))
	}
	return all
}

func TestHistoryDecidesWhatTheKernelTakes(t *testing.T) {
	for _, c := range []struct {
		release, line, want string // want is empty where there is no error
	}{
		{"4.11", "net.ipv4.tcp_tw_recycle = 0", ""},
		{"4.12", "net.ipv4.tcp_tw_recycle = 0", "Linux 4.12 has removed it: setting it fails."},
		{"6.13", "net.ipv4.tcp_tw_reuse_delay = 1000", "It exists since Linux 6.14: setting it fails."},
		{"6.14", "net.ipv4.tcp_tw_reuse_delay = 60000", ""},
		{"6.14", "net.ipv4.tcp_tw_reuse_delay = 60001", "It takes numbers from 1 to 60000: setting it fails."},
		{"4.18", "net.ipv4.tcp_tw_reuse = 3", ""},
		{"4.19", "net.ipv4.tcp_tw_reuse = 3", "It takes numbers from 0 to 2: setting it fails."},
		{"6.1", "net.ipv4.tcp_tw_reuse = on", `"on" is no number: setting it fails.`},
		{"6.1", "net.ipv4.tcp_tw_reuse = ", "It has no value: setting it fails."},
		{"6.1", "net.ipv4.tcp_syn_retries = 0x7f", ""},
		{"6.1", "net.ipv4.tcp_syn_retries = 0", "It takes numbers from 1 to 127: setting it fails."},
		{"4.10", "net.ipv4.ip_local_port_range = 1 65535", ""},
		{"4.11", "net.ipv4.ip_local_port_range = 1 65535", "It takes numbers from 1024 to 65535: setting it fails."},
		{"6.1", "net.ipv4.ip_local_port_range = 60999 32768", "The second number is smaller than the first: setting it fails."},
		{"6.1", "net.ipv4.tcp_rfc1338 = 1", "No sysctl of this name is known here; near it: tcp_rfc1337."},
		{"6.1", "net.ipv4.tcp_rfc = 1", "No sysctl of this name is known here; near it: tcp_rfc1337."},
		{"6.1", "net.ipv4.conf.all.rp_filterr = 1", ""},
		{"6.1", "vm.swapiness = 1", ""},
	} {
		got := ""
		for _, f := range Check(read(t, c.line), For{Facts: factsOf(t, c.release)}) {
			if f.Level == Error {
				got += f.Text
			}
		}
		if got != c.want {
			t.Errorf("Linux %s: %s: %q, want %q", c.release, c.line, got, c.want)
		}
	}
}

func TestWhatOtherLinesChange(t *testing.T) {
	for text, want := range map[string][]string{
		"net.ipv4.tcp_tw_reuse=1\nnet.ipv4.tcp_tw_reuse=0":                               {"1 contradiction"},
		"net.ipv4.tcp_tw_reuse=0\nnet.ipv4.tcp_tw_reuse=0":                               nil,
		"net.ipv4.tcp_tw_reuse=1\nnet.ipv4.tcp_timestamps=0":                             {"1 contradiction", "1 no effect", "2 no effect"},
		"net.ipv4.tcp_tw_reuse=1":                                                        {"1 no effect", "1 note"},
		"net.ipv4.tcp_timestamps=0":                                                      {"1 danger", "1 no effect"},
		"net.ipv4.ip_local_port_range=1024 32767":                                        {"1 danger", "1 note"},
		"net.ipv4.ip_local_port_range=1024 32767\nnet.ipv4.ip_local_reserved_ports=3306": {"1 note"},
		"net.ipv4.ip_local_port_range=1024 32767\nnet.ipv4.ip_local_reserved_ports=":     {"1 danger", "1 note"},
		"net.ipv4.tcp_abort_on_overflow=1":                                               {"1 no effect"},
		"net.ipv4.tcp_abort_on_overflow=1\nnet.ipv4.tcp_syncookies=0":                    nil,
		"kernel.core_modes=file\nkernel.core_modes=pipe":                                 nil, // of sysctl -a
		"fs.file-max=1\nvm.swappiness=1\nfs.file-max=2":                                  {"1 contradiction"},
		"-net.ipv4.tcp_tw_recycle=1":                                                     {"1 no effect"},
		"vm.swappiness=1\nnet.ipv6.conf.all.forwarding=1":                                nil,
	} {
		if got := levels(t, "6.1", text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Nothing has no effect that nobody has changed.
func TestDefaultsAreNotSaid(t *testing.T) {
	for text, want := range map[string][]string{
		"net.ipv4.tcp_tw_reuse=2\nnet.ipv4.tcp_tw_reuse_delay=1000\nnet.ipv4.tcp_fin_timeout=60\nnet.ipv4.tcp_syncookies=1": nil,
		"net.ipv4.tcp_tw_reuse_delay=1001": {"1 no effect"},
	} {
		if got := levels(t, "6.18", text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Each item is found in a file that is made for it, by its roles alone, on its kernels alone,
// and not with a value that it is not about.
func TestEveryItemIsFound(t *testing.T) {
	roles := []topo.Role{topo.Client, topo.Gateway, topo.Balancer, topo.Server}
	for i, item := range Items() {
		t.Run(fmt.Sprint(i, item.Sysctl, item.If), func(t *testing.T) {
			text, found := made(item, item.If.From), 0
			for _, release := range knownReleases() {
				facts := kernel.FactsOf(release)
				for _, role := range roles {
					want := item.On.Hold(facts) && (len(item.Roles) == 0 || slices.Contains(item.Roles, role))
					if want {
						found++
					}
					about := For{Facts: facts, Role: role, All: true}
					if got := says(Check(read(t, text), about), item); got != want {
						t.Fatalf("Linux %v, %s: found is %v, want %v:\n%s", release, role, got, want, text)
					}
					if other := made(item, item.If.From-1); says(Check(read(t, other), about), item) {
						t.Fatalf("Linux %v, %s: it is found in\n%s", release, role, other)
					}
				}
			}
			if found == 0 {
				t.Error("no release from 3.16 to 7.2 has it")
			}
		})
	}
}

// made is a file in which the number of the item's sysctl is the given one.
func made(item Item, number int) string {
	value := fmt.Sprint(number)
	switch {
	case item.If.Ports:
		const first = 32768
		value = fmt.Sprint(first, " ", first+number-1)
	case item.Sysctl == portRange:
		value = fmt.Sprint(max(number, 1024), " ", 60999)
		if number < item.If.From {
			value = "32768 60999"
		}
	}
	text := item.Sysctl + " = " + value + "\n"
	for _, w := range item.With {
		if !w.Unset {
			text += fmt.Sprintf("%s = %d\n", w.Sysctl, w.Values.From)
		}
	}
	return text
}

// says tells whether the item is one of the findings.
func says(all []Finding, item Item) bool {
	text := regexp.MustCompile(`\\\{[a-z-]+\\\}`).ReplaceAllString(regexp.QuoteMeta(item.Says), `\d+`)
	return slices.ContainsFunc(all, func(f Finding) bool {
		return f.Setting.Name == item.Sysctl && f.Level == item.Level && regexp.MustCompile("^"+text+"$").MatchString(f.Text)
	})
}

// releases are all for which there is advice.
func releases() (all []kernel.Release) {
	for major := Oldest.Major; major <= Newest.Major; major++ {
		first, last := 0, Newest.Minor
		if major == Oldest.Major {
			first = Oldest.Minor
		}
		if n, old := lastMinor[major]; old {
			last = n
		}
		for minor := first; minor <= last; minor++ {
			all = append(all, kernel.Mainline(major, minor))
		}
	}
	return all
}

// knownReleases are those in which something changed, of those for which there is advice.
func knownReleases() []kernel.Release {
	return slices.DeleteFunc(kernel.KnownReleases(), func(r kernel.Release) bool { return r.Before(Oldest.Major, Oldest.Minor) })
}

func TestReleases(t *testing.T) {
	for text, want := range map[string]string{
		"3.16": "3.16", "v6.1": "6.1", "6.1.0-44-cloud-amd64": "6.1", "7.2": "7.2", "4.20": "4.20",
		"3.15": "nothing is known here of Linux 3.15: want a release from 3.16 to 7.2", "7.3": "nothing is known here of Linux 7.3", "5.20": "there is no Linux 5.20: the last one before 6.0 is 5.19",
		"debian-6.1": `"debian-6.1" is no release: want one such as 6.1`, "": "is no release", "\x1b[1m": "\"\ufffd[1m\" is no release",
	} {
		r, err := Release(text)
		got := r.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) && !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// The largest file is not slow, whatever it has.
func TestLargeFiles(t *testing.T) {
	var text strings.Builder
	for i := range 15000 {
		fmt.Fprintf(&text, "net.ipv4.tcp_tw_reus%d = 1\nnet.ipv4.tcp_tw_reuse 1\n", i)
	}
	f := read(t, text.String())
	if got := Check(f, For{Facts: factsOf(t, "6.1")}); len(got) != 15000 || len(f.Mistakes) != 15000 {
		t.Errorf("%d findings, %d mistakes", len(got), len(f.Mistakes))
	}
}
