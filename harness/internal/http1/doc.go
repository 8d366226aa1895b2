// Package http1 reads and writes HTTP/1.1 messages (RFC 9112) as the bytes come,
// without a socket and without a clock: it never asks for a byte more than the
// message has, and says so when there was one too few.
//
// It knows what decides where a message ends and who closes the connection, and
// nothing else of HTTP.
package http1
