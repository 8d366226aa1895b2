package timewait

import (
	"maps"
	"slices"

	"twlab/harness/kernel"
	"twlab/harness/lab"
	"twlab/harness/recycle"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Emulation makes the running kernel behave like kernels that had tcp_tw_recycle. What is
// seen in its cells comes from the emulation: it proves nothing about any kernel, and is
// marked in every result ([claim.Family].Emulated, [claim.Result].Emulated).
type Emulation struct {
	// Of names the kernels that it emulates.
	Of     string
	Config recycle.Config
}

// Emulations are all emulations. The later ones are tried only in cells in which they
// differ from the first one.
func Emulations() []Emulation {
	return []Emulation{
		{Of: "Linux 3.17 to 4.11", Config: recycle.Config{Strict: true}},
		{Of: "Linux before 3.17"},
	}
}

// Family is the family of tcp_tw_recycle with the emulation in place of the sysctl.
func (e Emulation) Family() situation.Family {
	f := recycleFamily(&e.Config)
	f.Impossible = append(f.Impossible, claim.Impossible{
		Cells: claim.Cells{{situation.IPAxis().Name: {"6"}}}, Because: "the emulation knows IPv4 alone; the kernels checked SYNs over IPv6 too, since 3.1",
	})
	f.Emulated = e.Of
	return f
}

// Kernels are the kernels whose rules the emulation must follow: the running ones, as if
// client and balancer had tcp_tw_recycle.
func (e Emulation) Kernels(running claim.Kernels) claim.Kernels {
	strict := kernel.No
	if e.Config.Strict {
		strict = kernel.Yes
	}
	all := maps.Clone(running)
	for _, role := range []lab.Role{lab.Client, lab.Balancer} {
		facts := all[role]
		facts.Features = maps.Clone(facts.Features)
		facts.Features[kernel.TwRecycle], facts.Features[kernel.PassivePAWS], facts.Features[kernel.StrictRecycle] = kernel.Yes, kernel.Yes, strict
		all[role] = facts
	}
	return all
}

// Needed tells whether client and balancer run on kernels without the feature, so that
// there is something to emulate.
func (e Emulation) Needed(running claim.Kernels) bool {
	return claim.Lacks(lab.Client, kernel.PassivePAWS).Holds(running) && claim.Lacks(lab.Balancer, kernel.PassivePAWS).Holds(running)
}

// Chosen are the cells of an ordinary run, or all possible ones.
func (e Emulation) Chosen(running claim.Kernels, full bool) []claim.Cell {
	f, as := e.Family(), e.Kernels(running)
	cells := f.Chosen(as)
	if full {
		cells = f.All()
	}
	first := Emulations()[0]
	if e.Of == first.Of {
		return cells
	}
	return slices.DeleteFunc(cells, func(c claim.Cell) bool {
		own, _ := f.Rule(c, as)
		other, _ := f.Rule(c, first.Kernels(running))
		return own.Name == other.Name
	})
}
