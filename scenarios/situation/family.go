package situation

import (
	"context"
	"errors"

	"twlab/harness/lab"
	"twlab/harness/topo"
	"twlab/scenarios/claim"
)

// Family is a family with the code that creates its cells.
type Family struct {
	claim.Family
	// Topology is the lab that the cell needs, without the sysctls that are
	// axes (see [claim.Axis].Sysctl); [Family.Lab] adds those.
	Topology func(claim.Cell) lab.Topology
	// Drive creates the situation of the cell and returns what was seen. An error
	// means that the situation could not be created; it says nothing about the kernel.
	Drive func(context.Context, claim.Cell, *lab.Lab) (claim.Seen, error)
	// Tell tells the cell as the steps of a scenario file, for [Family.Scenario]. An error says
	// what of the cell files cannot bring about. Without Tell, Untold says why no cell of the
	// family can be told.
	Tell   func(claim.Cell) (Told, error)
	Untold string
}

// Lab is the whole topology of a cell: the family's, the sysctls that are axes,
// and the user's own.
func (f Family) Lab(c claim.Cell) lab.Topology {
	t := f.Topology(c)
	if _, varies := c.Values[ipAxis]; varies && OverIPv6(c) {
		t.IP = topo.IPv6
	}
	for _, a := range f.Axes {
		if a.Sysctl != (claim.RoleSysctl{}) {
			t.Sysctls = append(t.Sysctls, lab.Setting{
				Role: a.Sysctl.Role, Name: a.Sysctl.Sysctl, Value: c.Value(a.Name), IfPresent: a.Sysctl.IfPresent,
			})
		}
	}
	t.Sysctls = append(t.Sysctls, c.Extra...)
	return t
}

// Try drives a cell and returns what was seen. An error means that the situation could
// not be created, or that the driver noted evidence that the family does not declare; it
// says nothing about the kernel.
func (f Family) Try(ctx context.Context, c claim.Cell, l *lab.Lab) (claim.Seen, error) {
	seen, err := f.Drive(ctx, c, l)
	return seen, errors.Join(err, f.Undeclared(seen))
}
