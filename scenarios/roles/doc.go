// Package roles finds out what the kernels of the roles can do, and which role runs on which
// kernel.
package roles
