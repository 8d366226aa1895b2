package kernel

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseRelease(t *testing.T) {
	for text, want := range map[string]Release{
		"6.18.44-fc-v669":            {6, 18, 44, "6.18.44-fc-v669"},
		"3.10.0-1160.el7.x86_64":     {3, 10, 0, "3.10.0-1160.el7.x86_64"},
		"2.6.32-642.6.2.el6.x86_64":  {2, 6, 32, "2.6.32-642.6.2.el6.x86_64"},
		"7.2-rc1":                    {7, 2, 0, "7.2-rc1"},
		"5.10.0-33-cloud-amd64+deb1": {5, 10, 0, "5.10.0-33-cloud-amd64+deb1"},
	} {
		got, err := ParseRelease(text)
		if err != nil || got != want {
			t.Errorf("ParseRelease(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "six", "6", "v6.1"} {
		if got, err := ParseRelease(text); err == nil {
			t.Errorf("ParseRelease(%q) = %+v, want an error", text, got)
		}
	}
}

func TestReleaseBefore(t *testing.T) {
	r := Release{Major: 4, Minor: 12}
	for _, c := range []struct {
		major, minor int
		want         bool
	}{{4, 12, false}, {4, 13, true}, {4, 9, false}, {5, 0, true}, {3, 19, false}} {
		if got := r.Before(c.major, c.minor); got != c.want {
			t.Errorf("4.12 before %d.%d = %v", c.major, c.minor, got)
		}
	}
}

// The same missing file has another reason on another kernel.
func TestAbsenceIsExplainedByTheRelease(t *testing.T) {
	for _, c := range []struct {
		name    string
		release Release
		want    error
		says    string
	}{
		{"net.ipv4.tcp_tw_recycle", Mainline(4, 12), ErrSysctlGone, "removed in Linux 4.12"},
		{"net.ipv4.tcp_tw_recycle", Mainline(6, 18), ErrSysctlGone, "4396e46187ca"},
		{"net.ipv4.tcp_tw_recycle", Mainline(4, 10), ErrSysctlGlobal, "per namespace since Linux 4.11"},
		{"net.ipv4.tcp_tw_reuse_delay", Mainline(6, 1), ErrSysctlNotYet, "introduced in Linux 6.14"},
		{"net.ipv4.tcp_timestamps", Mainline(4, 4), ErrSysctlGlobal, "per namespace since Linux 4.13"},
		{"net.ipv4.tcp_mem", Mainline(6, 18), ErrSysctlGlobal, "one value for the whole machine"},
		{"net.ipv4.tcp_mum", Mainline(6, 18), ErrSysctlUnknown, "misspelt"},
	} {
		err := explainOn(c.release, c.name, "1", fs.ErrNotExist)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s on %v: %v\nwant %v and %q", c.name, c.release, err, c.want, c.says)
		}
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, c := range []struct{ because, want error }{
		{unix.EINVAL, ErrSysctlValue}, {unix.ERANGE, ErrSysctlValue}, {unix.EACCES, ErrSysctlReadOnly}, {unix.EIO, unix.EIO},
	} {
		if err := explainOn(Mainline(6, 18), "net.x", "1", c.because); !errors.Is(err, c.want) {
			t.Errorf("%v becomes %v, want %v", c.because, err, c.want)
		}
	}
}

func TestHistoryIsInOrder(t *testing.T) {
	for _, h := range Sysctls() {
		if h.Namespaced != (Release{}) && h.Namespaced.Before(h.Introduced.Major, h.Introduced.Minor) {
			t.Errorf("%s was per namespace before it was there", h.Name)
		}
		if h.Removed != (Release{}) && h.Removed.Before(h.Namespaced.Major, h.Namespaced.Minor) {
			t.Errorf("%s was removed before it was per namespace", h.Name)
		}
		if (h.Removed != Release{} || h.Introduced != Release{}) && h.Namespaced != (Release{}) && h.Source == "" {
			t.Errorf("%s came or went, and no source says so", h.Name)
		}
	}
}

func TestFindingSaysWhatToDo(t *testing.T) {
	need := Requirement{Name: "veth", Hint: "modprobe veth", Probe: func(context.Context) (Fact, string) { return No, "ENODEV" }}
	finding := Examine(t.Context(), []Requirement{need})[0]
	if got, want := finding.String(), "veth: no (ENODEV); modprobe veth"; got != want || finding.Met() {
		t.Errorf("%q (met: %v), want %q and not met", got, finding.Met(), want)
	}
	need.Probe = func(context.Context) (Fact, string) { return Unknown, "no privilege" }
	if finding := Examine(t.Context(), []Requirement{need})[0]; finding.Met() {
		t.Errorf("%q counts as met", finding)
	}
	need.Optional = true
	if finding := Examine(t.Context(), []Requirement{need})[0]; !finding.Met() {
		t.Errorf("optional %q counts as not met", finding)
	}
}

func TestHasSymbol(t *testing.T) {
	for name, want := range map[string]Fact{"tcp_v4_connect": Yes, "no_such_symbol_in_any_kernel": No} {
		fact, err := HasSymbol(name)
		if err != nil {
			t.Fatal(err)
		}
		if fact == Unknown {
			t.Skip("this kernel does not list its symbols")
		}
		if fact != want {
			t.Errorf("HasSymbol(%q) = %v, want %v", name, fact, want)
		}
	}
}

func TestDisagreementsAreWhatMainlineDoesNotHave(t *testing.T) {
	facts := FactsOf(Mainline(3, 10))
	if lines := facts.Disagreements(); len(lines) > 0 {
		t.Errorf("by release alone: %q, want none", lines)
	}
	facts.Features[LatePort], facts.Features[IsGuest], facts.Features[EvenPorts] = Yes, Yes, Unknown
	lines := facts.Disagreements()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "feature late-port: yes, where mainline 3.10 says no") {
		t.Errorf("%q, want late-port alone", lines)
	}
}
