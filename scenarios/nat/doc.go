// Package nat has the families about gateways: which port they give away again, how many
// connections that allows, and who refuses a connection.
package nat
