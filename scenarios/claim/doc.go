// Package claim is the engine of claims as data: families of cells, rules that say what is
// to be seen in them on which kernels and why, expectations, mutations, and the choice of
// cells. It knows neither labs nor sockets, and no test framework.
package claim
