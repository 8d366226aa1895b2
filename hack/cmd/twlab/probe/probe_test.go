package probe

import (
	"errors"
	"io"
	"strings"
	"testing"

	"twlab/harness/kernel"
	"twlab/harness/kernels"
	"twlab/harness/lab"
)

func TestParse(t *testing.T) {
	got, err := parse([]string{"balancer=/boot/old,/lib/modules/old", "client=debian-6.1"})
	if err != nil || len(got) != 2 || got[lab.Client] != "debian-6.1" || got[lab.Balancer] != "/boot/old,/lib/modules/old" {
		t.Errorf("%v, %v", got, err)
	}
	for _, words := range [][]string{{"balancer"}, {"balancer="}, {"=x"}, {"proxy=x"}, {"balancer=/a", "balancer=/b"}} {
		if _, err := parse(words); err == nil || !strings.Contains(err.Error(), "--kernel "+words[len(words)-1]) {
			t.Errorf("%q: %v", words, err)
		}
	}
}

func TestWhatIsNoKernel(t *testing.T) {
	for which, is := range map[string]error{"./probe.go": kernel.ErrNotImage, "no-such-name": kernels.ErrUnknown} {
		err := run(t.Context(), "agent", []string{"balancer=" + which}, io.Discard)
		if !errors.Is(err, is) || !strings.HasPrefix(err.Error(), "--kernel for the role balancer: ") {
			t.Errorf("%s: %v, want the role and %v", which, err, is)
		}
	}
}
