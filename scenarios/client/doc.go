// Package client has the families about the side that connects: its ports, its clock, its
// options, its sysctls and what helps it.
package client
