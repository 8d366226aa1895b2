package situation

import "twlab/scenarios/claim"

// ipAxis is the name of the axis of [IPAxis].
const ipAxis = "ip"

// IPAxis is the version of IP, which [Family.Lab] gives the topology. TCP above it is one code (tcp_input.c, tcp_timewait_state_process),
// and the sysctls below net.ipv4 act on connections of both: no rule turns on it.
func IPAxis() claim.Axis {
	return claim.Axis{Name: ipAxis, Values: []string{"4", "6"}, Means: "the version of IP"}
}

// OverIPv6 tells whether the cell of a family with the axis of [IPAxis] is one of IPv6.
func OverIPv6(c claim.Cell) bool { return c.Either(ipAxis, "6", "4") }
