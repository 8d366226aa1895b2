//go:build linux

package tcp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// PortRange limits the local ports from which the kernel chooses for one socket, within
// net.ipv4.ip_local_port_range (IP_LOCAL_PORT_RANGE, Linux 6.3). 0 at one end leaves that
// end to the sysctl.
type PortRange struct {
	Low, High uint16
}

// Validate returns an error when no port is in the range.
func (r PortRange) Validate() error {
	if r.High != 0 && r.High < r.Low {
		return fmt.Errorf("port range %d to %d: want the lower port first", r.Low, r.High)
	}
	return nil
}

// list returns the option; none for the whole range of the node.
func (r PortRange) list() []option {
	if r == (PortRange{}) {
		return nil
	}
	return []option{{"IP_LOCAL_PORT_RANGE", unix.IPPROTO_IP, ipLocalPortRange, int(r.High)<<16 | int(r.Low), "6.3"}}
}

// ipLocalPortRange is IP_LOCAL_PORT_RANGE of include/uapi/linux/in.h.
const ipLocalPortRange = 51
