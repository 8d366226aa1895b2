package topo

import (
	"errors"
	"fmt"
	"time"
)

// Impairment is what becomes of packets that one end of a link sends (sch_netem). Its zero
// value is nothing. A kernel without sch_netem has other means: a [Drop], of a share of all
// packets too; the first transmission dropped, so that the packet comes with its
// retransmission, a second late for a SYN; or a link that is down.
type Impairment struct {
	// Loss and Duplicate are how many packets are lost, or sent twice, in percent.
	Loss, Duplicate float64
	// Delay is how much later packets leave, give or take Jitter, which needs a Delay of at
	// least that much. Each packet has a delay of its own, so that one may overtake another.
	Delay, Jitter time.Duration
	// KeepOrder makes packets leave in their order, whatever the Jitter.
	KeepOrder bool
	// Rate is how fast packets leave, in bits per second; 0 is no limit.
	Rate uint64
	// Limit is how many packets wait at most; further ones are lost. 0 is 1000.
	Limit int
}

// longestDelay is what fits into the 32 bits of a delay in ticks of 64 ns (struct tc_netem_qopt).
const longestDelay = 4 * time.Minute

// Validate returns everything that is wrong with the impairment.
func (i Impairment) Validate() error {
	var errs []error
	bad := func(err error) { errs = append(errs, err) }
	for _, share := range []struct {
		name    string
		percent float64
	}{{"loss", i.Loss}, {"duplicate", i.Duplicate}} {
		if !(share.percent >= 0 && share.percent <= 100) { // so that NaN is bad
			bad(fmt.Errorf("%s of %v percent: want 0 to 100", share.name, share.percent))
		}
	}
	if i.Delay < 0 || i.Delay > longestDelay {
		bad(fmt.Errorf("delay of %v: want 0 to %v", i.Delay, longestDelay))
	}
	if i.Jitter < 0 || i.Jitter > i.Delay {
		bad(fmt.Errorf("jitter of %v: want 0 to the delay, %v", i.Jitter, i.Delay))
	}
	if i.Rate > 0 && i.Rate < 8 {
		bad(fmt.Errorf("rate of %d bits per second: want at least 8", i.Rate))
	}
	if i.Limit < 0 || i.Limit > 1<<20 {
		bad(fmt.Errorf("limit of %d packets: want 1 to %d, or 0 for 1000", i.Limit, 1<<20))
	}
	if i.Limit > 0 && i == (Impairment{Limit: i.Limit}) {
		bad(fmt.Errorf("limit of %d packets without delay or rate: nothing waits", i.Limit))
	}
	return errors.Join(errs...)
}

// validateShape returns what is wrong with the packets that the link carries.
func (l Link) validateShape() (errs []error) {
	const least, most = 68, 65535 // RFC 791; ETH_MAX_MTU
	if l.MTU != 0 && (l.MTU < least || l.MTU > most) {
		errs = append(errs, fmt.Errorf("link of %q and %q: MTU of %d bytes: want %d to %d, or 0 for 1500", l.Outer, l.Inner, l.MTU, least, most))
	}
	for _, end := range []struct {
		name  string
		sends Impairment
	}{{l.Outer, l.OuterSends}, {l.Inner, l.InnerSends}} {
		if err := end.sends.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("link of %q and %q: what %s sends: %w", l.Outer, l.Inner, end.name, err))
		}
	}
	return errs
}
