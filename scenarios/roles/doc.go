// Package roles finds out what the kernels of the roles can do, and says which role runs
// on which.
package roles
