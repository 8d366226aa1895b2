package scenarios

import (
	"twlab/harness/script"
	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// Told is a cell that was told as a scenario.
type Told struct {
	Family   string
	Rule     string
	Scenario script.Scenario
}

// TellAll tells the cells of an ordinary run that files can bring about and that do not wait long:
// the first of each rule, or all of them.
func TellAll(k claim.Kernels, all bool) (told []Told) {
	for _, f := range Families() {
		if f.Tell == nil {
			continue
		}
		told = append(told, tellCells(f, k, all)...)
	}
	return told
}

func tellCells(f situation.Family, k claim.Kernels, all bool) (told []Told) {
	seen := map[string]bool{}
	for _, c := range f.Chosen(k) {
		rule, covered := f.Rule(c, k)
		if !covered || rule.OutOfReach || f.IsSlow(c) || seen[rule.Name] && !all {
			continue
		}
		s, _, err := f.Scenario(c, rule)
		if err != nil {
			continue // files cannot bring it about
		}
		seen[rule.Name] = true
		told = append(told, Told{f.Name, rule.Name, s})
	}
	return told
}
