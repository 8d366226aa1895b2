//go:build linux

package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"twlab/harness/internal/http1"
	"twlab/harness/tcp"
)

// ask sends a request and reads the answer. What the peer does is not an error; the end of
// ctx is, and so is a failure on this side.
func ask(ctx context.Context, st *tcp.Stream, q *Request, budget time.Duration, reply *Reply) error {
	if err := pause(ctx, q.Pause); err != nil {
		return err
	}
	if err := st.Within(ctx, budget); err != nil {
		return err
	}
	path := q.Path
	if path == "" {
		path = "/"
	}
	began := time.Now()
	if q.Body > 0 {
		u := startUpload(ctx, st, http1.AppendPost(nil, st.Peer().String(), path, q.Connection, q.Body), q.Body)
		err := await(ctx, st, began, reply)
		return errors.Join(err, u.end(ctx, st, q.StopAtAnswer || reply.Disposition != Whole, reply))
	}
	if err := st.Write(ctx, http1.AppendGet(nil, st.Peer().String(), path, q.Connection)); err != nil {
		reply.Took = time.Since(began)
		return reply.conclude(err, false, false)
	}
	return await(ctx, st, began, reply)
}

// await reads the answer to a request that began at a time.
func await(ctx context.Context, st *tcp.Stream, began time.Time, reply *Reply) (err error) {
	var response http1.Response
	for !response.Done() {
		var came []byte
		if came, err = st.Read(ctx); err != nil {
			break
		}
		if reply.FirstByte == 0 {
			reply.FirstByte = time.Since(began)
		}
		used, wrong := response.Feed(came)
		if wrong == nil && used < len(came) {
			wrong = fmt.Errorf("%d bytes after the end of the response: %.80q", len(came)-used, came[used:])
		}
		if wrong != nil {
			reply.Disposition, reply.Problem = Malformed, wrong.Error()
			break
		}
	}
	reply.Took = time.Since(began)
	reply.Status, reply.Close, reply.Bytes = response.Status, response.Close, response.Bytes()
	if response.Status != 0 {
		reply.Length = response.Length
	}
	if reply.Disposition == Malformed {
		return nil
	}
	return reply.conclude(err, response.Begun(), response.End())
}

// conclude sets the disposition by the error that came instead of the rest of the answer: nil
// when all of it came. begun says that something came, and whole that the end of the
// connection makes it a whole answer.
func (r *Reply) conclude(err error, begun, whole bool) error {
	switch {
	case err == nil, errors.Is(err, io.EOF) && whole:
		r.Disposition = Whole
	case errors.Is(err, io.EOF) && begun:
		r.Disposition = Truncated
	case errors.Is(err, io.EOF):
		r.Disposition = Unanswered
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.Disposition = Pending
	case errors.As(err, &r.Errno):
		r.Disposition = Broken
	default:
		return err
	}
	return nil
}
