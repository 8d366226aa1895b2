// Package diagnose says why a connection died, from a recording alone.
//
// A recording becomes facts, each true, false or unknown. A cause of the catalogue is proved
// when all that it requires is true, by evidence of two kinds, and each cause that looks like
// it is ruled out by a fact; it is consistent when some of this is unknown. Nothing is ever
// called probable: what is not proved says which evidence would decide.
package diagnose
