//go:build linux

package observe

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// moving lists the files below /proc/sys/net that are left out, by a pattern of
// [path.Match], because they change although nothing sets them.
var moving = []string{
	"netfilter/nf_conntrack_count",          // connections tracked now
	"ipv4/netfilter/ip_conntrack_count",     // the same before Linux 4.13
	"ipv4/tcp_available_congestion_control", // grows when a module is loaded
	"ipv4/tcp_available_ulp",                // so too
	"mptcp/available_schedulers",            // so too
	"sunrpc/transports",                     // so too
	"ipv4/tcp_fastopen_key",                 // generated for the first listener that needs it; also a secret
	"core/netdev_rss_key",                   // generated for the first device that needs it
	"ipv6/conf/*/stable_secret",             // generated for the first address that needs it; also a secret
}

func (s *Snapshot) addSysctls() error {
	// Not through os.ReadFile: a host with hundreds of links has tens of
	// thousands of files here, and its poller would cost three times as much.
	const root = "/proc/sys/net" // of the calling thread's namespace
	buffer := make([]byte, 1<<12)
	return filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // a link went away, and took its directory along
		}
		name := strings.TrimPrefix(file, root+"/")
		for _, pattern := range moving {
			if match, err := path.Match(pattern, name); match || err != nil {
				return err
			}
		}
		n, err := readSmall(file, buffer)
		if err != nil {
			return nil //nolint:nilerr // for other users' eyes, write-only, without a value yet, or gone
		}
		// A dot in a link's name is a slash in sysctl(8)'s notation.
		dotted := strings.NewReplacer("/", ".", ".", "/").Replace("net/" + name)
		s.add(sysctlPrefix+dotted, "=", strings.Join(strings.Fields(string(buffer[:n])), " "))
		return nil
	})
}

func readSmall(file string, buffer []byte) (n int, err error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	n, err = unix.Read(fd, buffer)
	return n, errors.Join(err, unix.Close(fd))
}
