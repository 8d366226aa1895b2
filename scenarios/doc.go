// Package scenarios holds what twlab claims about the kernel, as data: families
// of combinations ([Cell]) with their axes, and rules that say, for each cell and
// each kernel, what is to be seen there and why. Each family has one driver that
// brings a cell about on a lab and returns what was seen.
//
// Nothing here expects anything of a running kernel or knows a test framework:
// package e2e drives the cells and compares. What needs no kernel (that every
// cell has its rule, that no rule is dead, what the document's sentences come to)
// is proved by this package's own tests.
package scenarios
