// Package kernels finds out what the kernels of the roles can do, and says which role runs
// on which.
package kernels
