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
	// Hurry is how soon a step must begin.
	Hurry situation.Hurry
	// More says that an earlier one is of the same rule.
	More bool
}

// TellAll tells the cells of an ordinary run that files can bring about and that do not wait long:
// one of each rule, or all of them.
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
		told = append(told, Told{Family: f.Name, Rule: rule.Name, Scenario: s, Hurry: f.Hurry(c), More: seen[rule.Name]})
		seen[rule.Name] = true
	}
	return told
}
