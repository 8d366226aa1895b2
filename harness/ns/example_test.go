//go:build linux

package ns_test

import (
	"fmt"
	"net"

	"twlab/harness/ns"
)

// A new namespace has a loopback device, which is down, and nothing else.
func ExampleNamespace_Do() {
	space, err := ns.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer space.Close() //nolint:errcheck // nobody else has closed it

	var devices []net.Interface
	err = space.Do(func() (err error) {
		devices, err = net.Interfaces()
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, device := range devices {
		fmt.Println(device.Name, device.Flags&net.FlagUp == net.FlagUp)
	}
	// Output: lo false
}
