// Package nat has the families about gateways: which port they use again, how many
// connections that allows, and who refuses a connection.
package nat
