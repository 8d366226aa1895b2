package claim

import "slices"

// Labels are the labels of a cell's spec, by which a run selects it: its family, its rule, the
// features that the rule needs of a kernel, and the values of the axes.
func (f Family) Labels(c Cell, r Rule) []string {
	labels := []string{"family:" + f.Name, "rule:" + r.Name}
	if f.Emulated == "" { // an emulation needs nothing of the kernel
		labels = append(labels, r.needs()...)
	}
	for _, a := range f.Axes {
		labels = append(labels, a.label(c.Value(a.Name)))
	}
	return labels
}

// AllLabels are the labels that any cell of the family can have.
func (f Family) AllLabels() []string {
	labels := []string{"family:" + f.Name}
	for i := range f.Rules { // a rule is too large to copy each
		labels = append(labels, "rule:"+f.Rules[i].Name)
		labels = append(labels, f.Rules[i].needs()...)
	}
	for _, a := range f.Axes {
		for _, v := range a.Values {
			labels = append(labels, a.label(v))
		}
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

func (a Axis) label(value string) string { return a.Name + ":" + value }

func (r Rule) needs() (labels []string) {
	for _, k := range r.Kernels {
		if !k.Lacks {
			labels = append(labels, "needs:"+string(k.Feature))
		}
	}
	return labels
}
