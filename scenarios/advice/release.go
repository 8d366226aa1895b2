package advice

import (
	"fmt"
	"strings"

	"twlab/harness/kernel"
)

// The releases that there is advice for.
var (
	Oldest = kernel.Mainline(3, 16)
	Newest = kernel.Mainline(7, 2)
)

// lastMinor is the last release of each major version but the newest.
var lastMinor = map[int]int{3: 19, 4: 20, 5: 19, 6: 19}

// Release reads a mainline release such as "6.1", "v6.1" or "6.1.0-44-amd64". The error says
// which ones there are.
func Release(text string) (kernel.Release, error) {
	r, err := kernel.ParseRelease(strings.TrimPrefix(text, "v"))
	if err != nil {
		return kernel.Release{}, fmt.Errorf("%s is no release: want one such as %v, from %v to %v", quoted(text), kernel.Mainline(6, 1), Oldest, Newest)
	}
	r = kernel.Mainline(r.Major, r.Minor)
	last, old := lastMinor[r.Major]
	switch {
	case r.Before(Oldest.Major, Oldest.Minor), !r.Before(Newest.Major, Newest.Minor+1):
		return kernel.Release{}, fmt.Errorf("nothing is known here of Linux %v: want a release from %v to %v", r, Oldest, Newest)
	case old && r.Minor > last:
		return kernel.Release{}, fmt.Errorf("there is no Linux %v: the last one before %d.0 is %d.%d", r, r.Major+1, r.Major, last)
	}
	return r, nil
}
