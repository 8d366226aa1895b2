// Package nat has the families about gateways: which ports they reuse, how many
// connections that allows, and who refuses a connection.
package nat
