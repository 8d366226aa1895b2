//go:build linux

package observe_test

import (
	"fmt"
	"net"

	"twlab/harness/ns"
	"twlab/harness/observe"
)

// What a connect(2) without a route leaves at the counters of its namespace.
func ExampleReadCounters() {
	space, err := ns.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer space.Close() //nolint:errcheck // nobody else has closed it

	err = space.Do(func() error {
		before, err := observe.ReadCounters()
		if err != nil {
			return err
		}
		_, err = net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80})
		fmt.Println(err)
		after, err := observe.ReadCounters()
		fmt.Println(after.Sub(before).Moved())
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// dial tcp4 192.0.2.1:80: connect: network is unreachable
	// Ip.OutNoRoutes +1
}
