// Package results reads what suites have left, of one kernel or of several, and makes one page of
// it.
package results
