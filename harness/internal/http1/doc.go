// Package http1 reads and writes HTTP/1.1 messages (RFC 9112) piece by piece, without a
// socket and without a clock: it never asks for a byte beyond the end of the message, and
// it reports a message that ends too early.
//
// It knows what decides where a message ends and who closes the connection, and nothing
// else of HTTP.
package http1
