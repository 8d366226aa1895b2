package lint

import (
	"fmt"
	"runtime"

	"twlab/harness/kernel"
	"twlab/scenarios/advice"
)

// target is the kernel that a file is for.
type target struct {
	facts kernel.Facts
	words string // "Linux 6.1"
}

// chosen is the kernel of the flag, or the running one. Where that is no Linux it is the
// newest that is known.
func chosen(flag string) (target, error) {
	if flag != "" {
		r, err := advice.Release(flag)
		if err != nil {
			return target{}, fmt.Errorf("--kernel: %w", err)
		}
		return target{kernel.FactsOf(r), fmt.Sprintf("Linux %v", r)}, nil
	}
	if runtime.GOOS != "linux" {
		return newest("this is no Linux; --kernel names another"), nil
	}
	running, err := kernel.Running()
	if err != nil {
		return target{}, err
	}
	return here(running)
}

// here is the running kernel. What can be probed without privilege is: distributions backport.
func here(running kernel.Release) (target, error) {
	r := kernel.Mainline(running.Major, running.Minor)
	switch {
	case r.Before(advice.Oldest.Major, advice.Oldest.Minor):
		return target{}, fmt.Errorf("nothing is known of the running kernel, Linux %v: name another one, from %v on, by --kernel", r, advice.Oldest)
	case !r.Before(advice.Newest.Major, advice.Newest.Minor+1):
		return newest(fmt.Sprintf("the running one, %v, is newer", r)), nil
	}
	facts := kernel.FactsOf(r)
	for _, f := range kernel.Features() {
		if f.Probe.Kind != kernel.BySymbol {
			continue
		}
		if fact, err := kernel.HasSymbol(f.Probe.Name); err == nil && fact != kernel.Unknown {
			facts.Features[f.Feature] = fact
		}
	}
	return target{facts, fmt.Sprintf("Linux %v (the running one)", r)}, nil
}

// newest is the newest kernel that is known.
func newest(why string) target {
	return target{kernel.FactsOf(advice.Newest), fmt.Sprintf("Linux %v (the newest known here: %s)", advice.Newest, why)}
}
