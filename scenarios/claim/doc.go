// Package claim handles claims as data: families of cells, rules that say what is expected in
// which cells on which kernels and why, expectations, mutations, and the choice of cells. It
// knows nothing about labs, sockets or test frameworks.
package claim
