//go:build linux

package haproxy

import (
	"context"
	"fmt"
	"os/exec"
)

// oldest is the first version that this package can use: in earlier ones "option
// httpclose" waited for the peer.
var oldest = version{2, 0}

// version is a branch of HAProxy.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) before(other version) bool {
	return v.major < other.major || v.major == other.major && v.minor < other.minor
}

// needs returns the first version that understands the configuration, and what of the
// configuration that is.
func (c Config) needs() (version, string) {
	if c.IdleCloseOnResponse {
		return version{2, 4}, "option idle-close-on-response needs"
	}
	return oldest, "want"
}

// tooOld returns an error when the installed HAProxy is too old for the configuration, and
// nil when that is not the problem.
func (c Config) tooOld(ctx context.Context, path string) error {
	said, err := exec.CommandContext(ctx, path, "-v").Output()
	if err != nil {
		return nil //nolint:nilerr // a program that cannot even say this has another problem
	}
	var have version
	// "HAProxy version 2.6.12-1 ..."; before 2.4 "HA-Proxy version ...".
	var name string
	if _, err := fmt.Sscanf(string(said), "%s version %d.%d", &name, &have.major, &have.minor); err != nil {
		return nil //nolint:nilerr // as above
	}
	if least, why := c.needs(); have.before(least) {
		return fmt.Errorf("%w: %s HAProxy %v, and this is %v; install a later one", ErrTooOld, why, least, have)
	}
	return nil
}
