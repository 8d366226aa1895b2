package diagnose

import "slices"

// Catalogue lists all causes. The order means nothing: when two of them are proved for one
// attempt, the catalogue is wrong.
func Catalogue() []Cause {
	return slices.Concat(
		nothingLeaves(),       // catalogueleaving.go
		byRules(), byRoutes(), // catalogueway.go
		fullTable(), oldEntry(), pastNAT(), // cataloguenat.go
		atTheServer(), ofEarlierConnection(), ofClosedConnection(), // catalogueserver.go
		closedTooEarly(), unknownThere(), waitsInVain(), // catalogueconnected.go
		atTheBalancer(), // cataloguebalancer.go
	)
}

// Find finds a cause by its ID.
func Find(id string) (Cause, bool) {
	all := Catalogue()
	i := slices.IndexFunc(all, func(c Cause) bool { return c.ID == id })
	if i < 0 {
		return Cause{}, false
	}
	return all[i], true
}

// IDs lists the IDs of all causes.
func IDs() (all []string) {
	for _, c := range Catalogue() {
		all = append(all, c.ID)
	}
	return all
}
