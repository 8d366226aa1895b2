package script

import (
	"time"

	"twlab/harness/topo"
)

// Listen opens a listening socket at a node.
type Listen struct {
	Node string
	Port uint16
	// At is the address to listen on, without a port; its zero value means all of them, of both
	// versions of IP where the network has both.
	At Endpoint
	// Backlog is the argument of listen(2); nil means as large as net.core.somaxconn allows.
	Backlog *int
	// AcceptAfter is when the program begins to accept; Accept is how many connections it
	// accepts, nil for all.
	AcceptAfter time.Duration
	Accept      *int
	// Serve is what it does with a connection.
	Serve Service
	// Web describes the responses of ServeHTTP.
	Web Web
	// NoReuseAddr leaves out SO_REUSEADDR, which servers usually set; ReusePort sets
	// SO_REUSEPORT.
	NoReuseAddr, ReusePort bool
	// OnlyV6 makes a socket on all IPv6 addresses refuse IPv4 (IPV6_V6ONLY).
	OnlyV6 bool
	// FastOpen is how many connections that began by TCP Fast Open may wait for the end of
	// their handshake (TCP_FASTOPEN); 0 is none. MPTCP listens by an MPTCP socket.
	FastOpen int
	MPTCP    bool
}

// Service is what a listener does with a connection.
type Service string

// The services. The zero value reads until the client has ended the connection, and then
// closes.
const (
	Drain Service = ""
	// Hold leaves the connection to later steps, which name it ID@server.
	Hold Service = "hold"
	// CloseFirst closes it at once and waits for the client.
	CloseFirst Service = "close-first"
	// ResetAll ends it with a RST.
	ResetAll Service = "reset"
	// ServeHTTP answers HTTP/1.1 requests.
	ServeHTTP Service = "http"
)

// Web describes HTTP responses.
type Web struct {
	// Status is 200 if it is 0. Body is the size of the body in bytes.
	Status, Body int
	// Reads is how many bytes of a request, head and body, are read before the answer; 0 means
	// all. The connection is closed after the answer to a request that is longer.
	Reads int
	// Last is the number of responses after which the connection is closed; 0 for no limit.
	Last int
	// Delay is the time between a request and its response.
	Delay time.Duration
	// Framing says how the end of a body is marked (http.Framing): "chunked" or "close"; empty is
	// by its length. Cut, if it is not 0, is after how many bytes of it a last response stops.
	Framing string
	Cut     int
	// End is how the server ends a connection: "reset" or "close-after-client"; empty is a FIN.
	// JoinFIN sends that FIN in the segment of the last byte.
	End     string
	JoinFIN bool
	// Idle is how long a connection may wait for a request; 0 means for ever.
	Idle time.Duration
}

// Connect makes a connection: connect(2).
type Connect struct {
	// From is the client. If it is the name of a group, each of its nodes makes one attempt.
	From Endpoint
	To   Endpoint
	// Count is the number of attempts of each client; 0 means one. They are made at once, and
	// with InTurn one after the other.
	Count  int
	InTurn bool
	// Then is what becomes of the connection.
	Then Ending
	// ISN is the initial sequence number; 0 leaves it to the kernel.
	ISN uint32
	// GiveUp is how long the client waits before it closes the socket, if that is sooner than the
	// kernel's own end. Without an outcome by then the attempt has none.
	GiveUp  time.Duration
	Options Options
}

// Ending is what becomes of a connection when it is there, or its requests are answered.
type Ending string

// The endings. The zero value is an ordinary close(2).
const (
	ThenClose  Ending = ""
	ThenKeep   Ending = "keep"
	ThenReset  Ending = "reset"
	ThenVanish Ending = "vanish"
	// ThenCloseFirst sends a FIN and waits for that of the server; ThenCloseAfter waits for
	// the server's FIN before it closes.
	ThenCloseFirst Ending = "close-first"
	ThenCloseAfter Ending = "close-after-server"
)

// Options are options of a client's socket.
type Options struct {
	// ReuseAddr is SO_REUSEADDR, ReusePort SO_REUSEPORT, LatePort IP_BIND_ADDRESS_NO_PORT.
	ReuseAddr, ReusePort, LatePort bool
	// EarlyPort lets bind(2) choose the port, before the destination is known.
	EarlyPort bool
	// Ports is the range of source ports (IP_LOCAL_PORT_RANGE, Linux 6.3).
	Ports topo.PortRange
	// NoDelay is TCP_NODELAY: each write is a segment of its own.
	NoDelay bool
	// FastOpen is how many bytes to send by TCP Fast Open (RFC 7413), MPTCP whether the socket
	// is one of Multipath TCP (RFC 8684).
	FastOpen int
	MPTCP    bool
	// UserTimeout is TCP_USER_TIMEOUT.
	UserTimeout time.Duration
	// KeepIdle, KeepInterval and KeepCount turn on SO_KEEPALIVE with these timers
	// (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
	KeepIdle, KeepInterval time.Duration
	KeepCount              int
}

// Exchange makes HTTP requests, one after the other, on a new connection or on one that was
// kept.
type Exchange struct {
	// From and To are as in Connect. Without them, Conn is the step that made the connection, or
	// several, of which each has an exchange.
	From, To Endpoint
	Conn     string
	// Count is the number of exchanges, each on a connection of its own, made at once; 0 means
	// one. With InTurn they are made one after the other.
	Count  int
	InTurn bool
	// GiveUp is how long the client waits for each answer before it resets the connection; 0 is
	// longer than any timer.
	GiveUp time.Duration
	// Requests is how many of each; 0 means one.
	Requests int
	// Body is the size of the body of each request in bytes; 0 makes it a GET.
	Body int
	// Connection is the value of the Connection field, if any.
	Connection string
	Then       Ending
	Options    Options
}

// Send writes bytes to a connection.
type Send struct {
	Conn  Conn
	Bytes int
}

// Receive reads a connection until it has got Bytes, or without a number until its end.
type Receive struct {
	Conn   Conn
	Bytes  int
	Within time.Duration
}

// Close closes a connection, or a listener with the connections that wait to be accepted:
// close(2).
type Close struct{ Conn Conn }

// HalfClose sends a FIN and leaves the connection open for reading: shutdown(2).
type HalfClose struct{ Conn Conn }

// Reset ends a connection with a RST.
type Reset struct{ Conn Conn }

// Vanish drops a connection without a packet, as a machine that loses power does.
type Vanish struct{ Conn Conn }

// Conn names one end of a connection: that of the client, as the ID of the step that made
// it, or that of the server.
type Conn struct {
	Step   string
	Server bool
}

// Clock advances the timestamp clock of a connection: by Advance, or until it is that much
// beyond or behind the clock of another connection. Or it sets the clock back, by Back, of which
// the peer learns by the next segment.
type Clock struct {
	Conn          Conn
	Advance, Back time.Duration
	// Beyond and Behind are the step that has made the other connection, which may have ended
	// since. The clocks of two connections differ by a random offset (tcp_timestamps=1). Such
	// a way may lead round all values of the clock, so the server sends a byte from time to
	// time, by whose ACK it learns of the new values.
	Beyond, Behind string
}
