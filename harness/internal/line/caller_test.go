package line

import (
	"errors"
	"net"
	"testing"
)

// lastWords is a stream whose other side answers the first call and hangs up, all of
// it before the call has been written.
type lastWords struct {
	net.Conn
	caller *Caller
	far    net.Conn
}

func (l *lastWords) Write(p []byte) (int, error) {
	go func() {
		f := newFrames(l.far)
		m, err := f.read()
		if err == nil {
			err = f.write(message{Kind: reply, ID: m.ID, Body: []byte("7")})
		}
		if err = errors.Join(err, l.far.Close()); err != nil {
			l.caller.lose(err)
		}
	}()
	n, err := l.Conn.Write(p)
	<-l.caller.gone
	return n, err
}

// An answer is an answer, also when the line is lost right after it.
func TestAnAnswerBeforeTheEndOfTheLineCounts(t *testing.T) {
	for range 50 { // a select chooses by chance
		near, far := net.Pipe()
		stream := &lastWords{Conn: near, far: far}
		stream.caller = NewCaller(stream, Errors{}, 0)
		got, err := Method[None, int]("seven").Call(t.Context(), stream.caller, None{})
		if err != nil || got != 7 {
			t.Fatalf("%d, %v, want what was answered", got, err)
		}
		if _, err := Method[None, int]("seven").Call(t.Context(), stream.caller, None{}); !errors.Is(err, ErrLost) {
			t.Fatalf("the next call: %v, want ErrLost", err)
		}
		stream.caller.Close()
	}
}
