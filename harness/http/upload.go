//go:build linux

package http

import (
	"context"
	"errors"
	"os"
	"slices"

	"twlab/harness/tcp"
)

// upload is a request with a body that is being sent.
type upload struct {
	body, sent int // bytes of the body in all, and those that the kernel has taken
	err        error
	done       chan struct{}
}

// startUpload sends a request on a goroutine of its own. end must be called.
func startUpload(ctx context.Context, st *tcp.Stream, head []byte, body int) *upload {
	u := &upload{body: body, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		u.send(ctx, st, head)
	}()
	return u
}

func (u *upload) send(ctx context.Context, st *tcp.Stream, head []byte) {
	piece := slices.Concat(head, filling[:min(u.body, len(filling))]) // the head goes out with the beginning of the body
	u.sent = -len(head)
	for {
		u.err = st.Write(ctx, piece)
		u.sent += len(piece) - st.Unwritten()
		if u.err != nil || u.sent == u.body {
			return
		}
		piece = filling[:min(u.body-u.sent, len(filling))]
	}
}

// end waits for the upload, after it has told it to stop if so wanted, and notes how far it
// came.
func (u *upload) end(ctx context.Context, st *tcp.Stream, stop bool, reply *Reply) (err error) {
	if stop {
		err = st.StopWriting(ctx)
	}
	<-u.done
	reply.Written = max(0, u.sent)
	switch {
	case u.err == nil, errors.Is(u.err, os.ErrDeadlineExceeded), errors.As(u.err, &reply.WriteErrno):
		return err
	default:
		return errors.Join(err, u.err)
	}
}
