package failure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twlab/harness/guest"
	"twlab/harness/kernel"
)

func TestAnErrorIsSaidOnceAndPlainly(t *testing.T) {
	expired, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-expired.Done()
	unknown := &kernel.SysctlError{Name: "net.ipv4.tcp_nonsense", Value: "1", Reason: kernel.ErrSysctlUnknown, Detail: "misspelt"}
	closed := errors.New("balancer: close: bad file descriptor")
	for name, c := range map[string]struct {
		what string
		err  error
		want []string
	}{
		"an event that was waited for": {
			"the situation did not come about", fmt.Errorf("five-tuple: await the FIN: %w", expired.Err()),
			[]string{
				"the situation did not come about:",
				"  five-tuple: await the FIN: context deadline exceeded",
				"  " + advice(context.DeadlineExceeded),
			},
		},
		"a sysctl that is not there, told twice": {
			"the lab could not be built", errors.Join(fmt.Errorf("balancer: %w", unknown), closed, closed),
			[]string{
				"the lab could not be built:",
				"  balancer: " + unknown.Error(),
				"  " + closed.Error(),
				"  " + advice(kernel.ErrSysctlUnknown),
			},
		},
		"a machine that died": {
			"the lab could not be built", &guest.DeadError{Err: expired.Err(), How: "QEMU has ended", Console: "its end:\n\tKernel panic"},
			[]string{
				"the lab could not be built:",
				"  " + expired.Err().Error() + " (QEMU has ended)",
				"  The end of its console is in EVIDENCE/console.txt",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			got := strings.ReplaceAll(Text(c.what, c.err, dir), dir, "EVIDENCE")
			if want := strings.Join(c.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			console, err := os.ReadFile(filepath.Join(dir, "console.txt"))
			var dead *guest.DeadError
			if errors.As(c.err, &dead) && string(console) != dead.Console+"\n" {
				t.Errorf("console.txt: %q, %v", console, err)
			}
		})
	}
}
