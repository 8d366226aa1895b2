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

// Emulation lets the running kernel stand in for kernels that had tcp_tw_recycle.
// What is seen in its cells is the emulation's doing: it counts for no kernel, and
// is marked wherever it shows ([Family.Emulated], [Result.Emulated]).
type Emulation struct {
	// Of names the kernels that it stands in for.
	Of     string
	Config recycle.Config
}

// Emulations are those that there are. The later ones are tried only where they
// differ from the first.
func Emulations() []Emulation {
	return []Emulation{
		{Of: "Linux 3.17 to 4.11", Config: recycle.Config{Strict: true}},
		{Of: "Linux before 3.17"},
	}
}

// Family is the family of tcp_tw_recycle with the emulation in place of the sysctl.
func (e Emulation) Family() situation.Family {
	f := recycleFamily(&e.Config)
	f.Emulated = e.Of
	return f
}

// Kernels are the kernels whose rules the emulation goes by: the running ones, as if
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

// Needed tells whether client and balancer run on kernels from which the feature is gone,
// so that there is something to emulate.
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
