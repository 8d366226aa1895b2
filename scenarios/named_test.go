package scenarios

import (
	"strings"
	"testing"

	"twlab/scenarios/claim"
)

func TestNamed(t *testing.T) {
	for _, c := range []struct{ words, family, describes string }{
		{"tuple", "tuple", "clock=older isn=newer client-ts=1"},
		{"tuple isn=older rfc1337=1", "tuple", "clock=older isn=older client-ts=1 balancer-ts=1 second=other-host state=time-wait rfc1337=1"},
		{"[It] Cell refusal by=queue is refusal-queue [cell, family:refusal]", "refusal", "by=queue"},
		{"refusal-queue", "refusal", "by=queue"},
		{"gateway-clash-lingers", "gateway", "entry=kept"},
	} {
		f, cell, err := Named([]string{c.words}, claim.Newest())
		if err != nil || f.Name != c.family || !strings.HasPrefix(f.Describe(cell), c.describes) {
			t.Errorf("%q: %s %v, %v", c.words, f.Name, cell.Values, err)
		}
	}
}

func TestNamedSaysWhatIsNear(t *testing.T) {
	for words, want := range map[string]string{
		"":                                  "which cell? give its family and AXIS=VALUE, or the name of a rule",
		"tupel":                             `no family and no rule "tupel"; near it: tuple`,
		"tuple-newer-timestam":              `no family and no rule "tuple-newer-timestam"; near it: tuple, tuple-newer-timestamp`,
		"tuple clok=older":                  `family tuple has no axis "clok"; near it: clock`,
		"tuple clock=odler":                 `axis clock has no value "odler"; near it: older`,
		"refusal by=me":                     `axis by has no value "me"; there are nobody, client,`,
		"tuple client-ts=0":                 "is impossible: a SYN without a timestamp has no clock to compare",
		"recycle-older-dropped":             "rule recycle-older-dropped applies to no cell on this kernel, but on Linux 4.11 and others (--release 4.11)",
		"tuple-older-timestamp-answered-1s": "but on Linux 5.4 and others",
		"refusal-queue refusal-two":         `no family and no rule "refusal-queue"`,
	} {
		if _, _, err := Named(strings.Fields(words), claim.Newest()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", words, err, want)
		}
	}
}

func TestRulesOfOtherKernels(t *testing.T) {
	for _, rule := range []string{"tuple-older-timestamp-answered", "no-such-rule"} {
		if on, others := OnOthers(rule, claim.Newest()); others {
			t.Errorf("%s is said to be of other kernels, such as %v", rule, on)
		}
	}
}
