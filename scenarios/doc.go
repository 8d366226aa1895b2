// Package scenarios holds what twlab claims about the kernel, as data: families of cells
// ([claim.Cell]) with their axes, and rules that say, for each cell and each kernel, what is
// expected there and why. Each family has one driver, which creates a cell in a lab and
// returns what was seen.
//
// Nothing here needs a running kernel or a test framework: package e2e drives the cells and
// compares. The tests of this package prove what needs no kernel: that every cell has its
// rule, that every rule has a cell, and that every sentence of the document has its rules.
package scenarios
